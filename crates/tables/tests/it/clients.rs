//! What is written here is what other engines read: PyIceberg and DuckDB, value by value.
