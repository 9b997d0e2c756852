"""What must be true before the branch is merged."""

import headwater


@headwater.expectation()
def every_flight_has_a_carrier(flights=headwater.Model("flights_clean", columns=["carrier"])):
    return flights["carrier"].null_count == 0


@headwater.expectation()
def each_airline_has_one_row(scorecard=headwater.Model("airline_scorecard", columns=["airline"])):
    names = scorecard["airline"].to_pylist()
    return len(names) == len(set(names)) > 0


@headwater.expectation()
def airlines_are_not_too_late(
    scorecard=headwater.Model("airline_scorecard", columns=["airline", "mean_delay"]),
    worst=headwater.Parameter("worst_delay_allowed"),
):
    late = [row for row in scorecard.to_pylist() if row["mean_delay"] > worst]
    for row in late:
        print(f"{row['airline']} is {row['mean_delay']} minutes late on average")
    return not late
