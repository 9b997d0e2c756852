"""Headwater's ready-made expectations, under Bauplan's names."""

from headwater.expectations import (
    expect_column_accepted_values,
    expect_column_all_null,
    expect_column_all_unique,
    expect_column_equal_concatenation,
    expect_column_mean_greater_or_equal_than,
    expect_column_mean_greater_than,
    expect_column_mean_smaller_or_equal_than,
    expect_column_mean_smaller_than,
    expect_column_no_nulls,
    expect_column_not_unique,
    expect_column_some_null,
)

__all__ = [
    "expect_column_accepted_values",
    "expect_column_all_null",
    "expect_column_all_unique",
    "expect_column_equal_concatenation",
    "expect_column_mean_greater_or_equal_than",
    "expect_column_mean_greater_than",
    "expect_column_mean_smaller_or_equal_than",
    "expect_column_mean_smaller_than",
    "expect_column_no_nulls",
    "expect_column_not_unique",
    "expect_column_some_null",
]
