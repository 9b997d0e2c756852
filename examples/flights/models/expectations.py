"""What must be true before the branch is merged."""

import headwater


@headwater.expectation()
@headwater.python("3.11", pip={})
def no_flight_is_without_a_carrier(flights=headwater.Model("flights_clean", columns=["carrier"])):
    return flights["carrier"].null_count == 0


@headwater.expectation()
@headwater.python("3.11", pip={})
def every_airline_stands_once(scorecard=headwater.Model("airline_scorecard", columns=["airline"])):
    names = scorecard["airline"].to_pylist()
    return len(names) == len(set(names)) > 0


@headwater.expectation()
@headwater.python("3.11", pip={})
def no_airline_is_too_late(
    scorecard=headwater.Model("airline_scorecard", columns=["airline", "mean_delay"]),
    worst=headwater.Parameter("worst_delay_allowed"),
):
    late = [row for row in scorecard.to_pylist() if row["mean_delay"] > worst]
    for row in late:
        print(f"{row['airline']} is {row['mean_delay']} minutes late on average")
    return not late
