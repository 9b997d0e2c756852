//! `headwater init`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

/// `headwater init`
#[derive(Debug, Args)]
pub struct Init {
    /// The project's folder; created if missing
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// The project's name [default: the name of the folder]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub name: Option<String>,
    /// Start with the files and the data of an example project
    #[arg(long, value_enum, value_name = "EXAMPLE", conflicts_with = "name")]
    pub example: Option<ExampleArgument>,
    /// Convert the dbt project in this folder: models, tests and seeds
    #[arg(long, value_name = "DIR", conflicts_with_all = ["example", "name"])]
    pub dbt: Option<PathBuf>,
    /// Store tables in a bucket, `s3://bucket/prefix` [default: in the lake's folder]
    #[arg(long, value_name = "URL")]
    pub warehouse: Option<String>,
}

/// `--example`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExampleArgument {
    /// Departures from New York in 2013, as in `headwater demo`
    Flights,
}
