"""Delays by route and by airline, each with the packages it likes best."""

import headwater


@headwater.model(materialization="replace")
@headwater.python(pip={"polars": "1.38.1"})
def route_delays(
    flights=headwater.Model("flights_clean", columns=["origin", "dest", "arr_delay", "distance"]),
    airports=headwater.Model("airports", columns=["faa", "name"]),
):
    """Mean and 90th percentile of the arrival delay, by route."""
    import polars as pl

    frame = pl.from_arrow(flights)
    routes = frame.group_by("origin", "dest").agg(
        pl.len().alias("flights"),
        pl.col("arr_delay").mean().round(2).alias("mean_delay"),
        pl.col("arr_delay").quantile(0.9).alias("late_delay"),
        pl.col("distance").first().alias("distance"),
    )
    named = routes.join(pl.from_arrow(airports), left_on="dest", right_on="faa", how="left")
    print(f"{len(named)} routes, polars {pl.__version__}")
    return named.rename({"name": "airport"}).sort("origin", "dest")


@headwater.model(memory="1GiB")
@headwater.python(pip={"pandas": "2.2.3"})
def airline_delays(
    flights=headwater.Model(
        "flights_clean", columns=["carrier", "dep_delay", "arr_delay", "precipitation"]
    ),
    minimum_flights=headwater.Parameter("minimum_flights"),
):
    """How late each airline is, in dry and in wet hours."""
    import pandas as pd

    frame = flights.to_pandas()
    frame["wet"] = frame["precipitation"].fillna(0) > 0
    by_airline = frame.groupby("carrier")
    result = pd.DataFrame(
        {
            "flights": by_airline.size(),
            "mean_delay": by_airline["arr_delay"].mean().round(2),
            "on_time": by_airline["arr_delay"].apply(lambda delay: (delay <= 15).mean()).round(4),
            "mean_delay_wet": frame[frame["wet"]].groupby("carrier")["arr_delay"].mean().round(2),
        }
    ).reset_index()
    kept = result[result["flights"] >= minimum_flights]
    print(f"{len(kept)} airlines of {len(result)}, pandas {pd.__version__}")
    return kept


@headwater.model(materialization="replace")
@headwater.python(pip={"pandas": "2.3.3"})
def plane_ages(
    flights=headwater.Model("flights_clean", columns=["tailnum", "arr_delay"]),
    planes=headwater.Model("planes", columns=["tailnum", "year"], filter="year IS NOT NULL"),
):
    """Whether old planes are late: another version of pandas, in the same run."""
    import pandas as pd

    joined = flights.to_pandas().merge(planes.to_pandas(), on="tailnum")
    joined["age"] = (2013 - joined["year"]).clip(lower=0, upper=40).astype("int64")
    print("pandas", pd.__version__)
    ages = joined.groupby("age")["arr_delay"].agg(["size", "mean"]).reset_index()
    return ages.rename(columns={"size": "flights", "mean": "mean_delay"})
