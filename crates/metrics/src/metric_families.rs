//! Encoding of metric families: a name, a help text, and the samples with their labels.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

use crate::duration_histogram::HistogramCounts;

/// The names and values of the labels of a sample.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// The value of a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SampleValue {
    Integer(u64),
    Float(f64),
}

impl From<u64> for SampleValue {
    fn from(value: u64) -> Self {
        SampleValue::Integer(value)
    }
}

impl From<f64> for SampleValue {
    fn from(value: f64) -> Self {
        SampleValue::Float(value)
    }
}

/// The name and the description of a family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MetricFamily {
    /// The name. For a counter, the name omits the suffix `_total`.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
}

/// Writes families in the format of the encoder.
pub(crate) struct FamilyWriter<'a>(pub(crate) DescriptorEncoder<'a>);

impl FamilyWriter<'_> {
    /// Writes a family of counters.
    pub(crate) fn counters<V: Into<SampleValue>>(
        &mut self,
        family: MetricFamily,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let MetricFamily { name, help } = family;
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        let none: Option<&Exemplar<NoLabelSet, f64>> = None;
        for (labels, value) in samples {
            let mut encoder = encoder.encode_family(&labels)?;
            match value.into() {
                SampleValue::Integer(value) => encoder.encode_counter(&value, none)?,
                SampleValue::Float(value) => encoder.encode_counter(&value, none)?,
            }
        }
        Ok(())
    }

    /// Writes a family of gauges.
    pub(crate) fn gauges<V: Into<SampleValue>>(
        &mut self,
        family: MetricFamily,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let MetricFamily { name, help } = family;
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            let mut encoder = encoder.encode_family(&labels)?;
            match value.into() {
                SampleValue::Integer(value) => encoder.encode_gauge(&value)?,
                SampleValue::Float(value) => encoder.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    /// Writes a constant metric, named `..._info`, whose labels contain the values.
    pub(crate) fn info(&mut self, family: MetricFamily, labels: &Labels) -> fmt::Result {
        let MetricFamily { name, help } = family;
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    /// Writes a family of histograms.
    pub(crate) fn histograms(
        &mut self,
        family: MetricFamily,
        samples: impl IntoIterator<Item = (Labels, HistogramCounts)>,
    ) -> fmt::Result {
        let MetricFamily { name, help } = family;
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, counts) in samples {
            let mut encoder = encoder.encode_family(&labels)?;
            let HistogramCounts { sum, count, buckets } = counts;
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

/// Returns labels from names and values.
pub(crate) fn labels<const N: usize>(labels: [(&'static str, &str); N]) -> Labels {
    labels.map(|(name, value)| (name, value.to_owned())).into()
}
