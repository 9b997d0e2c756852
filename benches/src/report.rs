//! Benchmark results: the measured value, its reference and its bound.

use std::time::Duration;

use crate::sample::percentile;

/// One result.
struct ReportLine {
    what: String,
    measured: String,
    reference: String,
    ratio: Option<f64>,
    bound: String,
}

/// Results of one suite.
pub struct Report {
    suite: String,
    lines: Vec<ReportLine>,
}

impl Report {
    /// Creates an empty report.
    pub fn new(suite: &str) -> Self {
        Report { suite: suite.to_owned(), lines: Vec::new() }
    }

    /// Adds a time and its ratio to a reference, with a bound on the ratio.
    pub fn ratio(
        &mut self,
        what: &str,
        measured: Duration,
        (name, reference): (&str, Duration),
        bound: f64,
    ) {
        let ratio = measured.as_secs_f64() / reference.as_secs_f64();
        self.push(ReportLine {
            what: what.to_owned(),
            measured: duration(measured),
            reference: format!("{name} {}", duration(reference)),
            ratio: Some(ratio),
            bound: format!("at most {bound} ×"),
        });
    }

    /// Adds a time and its ratio to a reference, without a bound.
    pub fn unbounded_ratio(
        &mut self,
        what: &str,
        measured: Duration,
        (name, reference): (&str, Duration),
    ) {
        self.push(ReportLine {
            what: what.to_owned(),
            measured: duration(measured),
            reference: format!("{name} {}", duration(reference)),
            ratio: Some(measured.as_secs_f64() / reference.as_secs_f64()),
            bound: String::new(),
        });
    }

    /// Adds a rate per second, with an optional bound, and the ratio of the time per operation to a
    /// reference time.
    pub fn rate(
        &mut self,
        what: &str,
        count: u64,
        took: Duration,
        (name, reference): (&str, Duration),
        bound: Option<u64>,
    ) {
        let each = took.as_secs_f64() / count as f64;
        self.push(ReportLine {
            what: what.to_owned(),
            measured: format!("{:.0} /s", 1.0 / each),
            reference: format!("{name} {}", duration(reference)),
            ratio: Some(each / reference.as_secs_f64()),
            bound: bound.map_or(String::new(), |bound| format!("at least {bound} /s")),
        });
    }

    /// Adds a geometric mean of ratios, with an optional bound.
    pub fn mean(&mut self, what: &str, name: &str, ratios: &[f64], bound: Option<f64>) {
        let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
        self.push(ReportLine {
            what: what.to_owned(),
            measured: "geometric mean".to_owned(),
            reference: name.to_owned(),
            ratio: Some(mean),
            bound: bound.map_or(String::new(), |bound| format!("at most {bound} ×")),
        });
    }

    /// Adds a time with a fixed bound.
    pub fn time(&mut self, what: &str, measured: Duration, reference: &str, bound: Duration) {
        self.push(ReportLine {
            what: what.to_owned(),
            measured: duration(measured),
            reference: reference.to_owned(),
            ratio: None,
            bound: format!("under {}", duration(bound)),
        });
    }

    /// Adds a value that is neither a time nor a ratio, with its bound as text.
    pub fn plain(&mut self, what: &str, measured: &str, reference: &str, bound: &str) {
        self.push(ReportLine {
            what: what.to_owned(),
            measured: measured.to_owned(),
            reference: reference.to_owned(),
            ratio: None,
            bound: bound.to_owned(),
        });
    }

    /// Adds the median and the 99th percentile of samples, each with a bound.
    pub fn spread(
        &mut self,
        what: &str,
        samples: &[Duration],
        reference: &str,
        (middle, most): (Duration, Duration),
    ) {
        let at = |share| percentile(samples, share);
        self.push(ReportLine {
            what: what.to_owned(),
            measured: format!("{} / {}", duration(at(50)), duration(at(99))),
            reference: reference.to_owned(),
            ratio: None,
            bound: format!("under {} / {}", duration(middle), duration(most)),
        });
    }

    fn push(&mut self, line: ReportLine) {
        eprintln!("{}", text(&line));
        self.lines.push(line);
    }

    /// Prints all results.
    pub fn print(&self) {
        let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        println!("\n{}: {processors} processors, release build", self.suite);
        for line in &self.lines {
            println!("{}", text(line));
        }
    }
}

fn text(line: &ReportLine) -> String {
    let ratio = line.ratio.map_or(String::new(), |ratio| format!("{ratio:.2} ×"));
    let (what, measured, reference) = (&line.what, &line.measured, &line.reference);
    format!("{what:<52} {measured:>19}  {ratio:>9}  {:<27} {reference}", line.bound)
}

/// Formats a duration with three significant digits.
pub fn duration(value: Duration) -> String {
    let seconds = value.as_secs_f64();
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
