//! What the server counts, in Prometheus's text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets of times, in seconds.
const TIMES: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds of the buckets of batches, in images.
const BATCHES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// What was counted since the server started.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Open connections.
    pub connections: AtomicUsize,
    /// Connections that were refused because there were too many.
    pub refused: AtomicU64,
    /// Models that were loaded or taken away while the server ran.
    pub changes: AtomicU64,
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    times: Mutex<BTreeMap<&'static str, Histogram>>,
    batches: Mutex<Histogram>,
    computing: AtomicU64,
}

/// Counts by bucket, the last for what is beyond all bounds, and the sum of all values.
#[derive(Clone, Debug, Default)]
struct Histogram {
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    fn add(&mut self, bounds: &[f64], value: f64) {
        self.counts.resize(bounds.len() + 1, 0);
        let bucket = bounds.iter().position(|&bound| value <= bound).unwrap_or(bounds.len());
        self.counts[bucket] += 1;
        self.sum += value;
    }

    /// Its lines; `labels` is empty or ends in a comma.
    fn write(&self, out: &mut String, name: &str, labels: &str, bounds: &[f64]) {
        let mut total = 0;
        for (i, bound) in bounds.iter().enumerate() {
            total += self.counts.get(i).copied().unwrap_or(0);
            let _ = writeln!(out, "{name}_bucket{{{labels}le=\"{bound}\"}} {total}");
        }
        total += self.counts.get(bounds.len()).copied().unwrap_or(0);
        let _ = writeln!(out, "{name}_bucket{{{labels}le=\"+Inf\"}} {total}");
        let plain = labels.trim_end_matches(',');
        let braces = if plain.is_empty() { String::new() } else { format!("{{{plain}}}") };
        let _ = writeln!(out, "{name}_sum{braces} {}\n{name}_count{braces} {total}", self.sum);
    }
}

impl Metrics {
    /// Counts a request that was answered.
    pub fn request(&self, route: &'static str, code: u16, time: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, code)).or_default() += 1;
        drop(requests);
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.entry(route).or_default().add(&TIMES, time.as_secs_f64());
    }

    /// Counts a batch that was computed.
    pub fn batch(&self, images: usize, time: Duration) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.add(&BATCHES, images as f64);
        self.computing.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// Requests that were answered.
    pub fn answered(&self) -> u64 {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Images that were computed.
    pub fn images(&self) -> u64 {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).sum as u64
    }

    /// Everything as text; `waiting` images of at most `most` wait, and there are `models`.
    pub fn text(&self, waiting: usize, most: usize, models: usize) -> String {
        let mut out = String::new();
        let head = |name: &str, kind: &str, help: &str| {
            format!("# HELP headstart_{name} {help}\n# TYPE headstart_{name} {kind}\n")
        };
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        out += &head("requests_total", "counter", "Requests by route and status code.");
        for ((route, code), count) in requests {
            let labels = format!("route=\"{route}\",code=\"{code}\"");
            let _ = writeln!(out, "headstart_requests_total{{{labels}}} {count}");
        }
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let name = "request_duration_seconds";
        out += &head(name, "histogram", "Time from a request's head to its answer.");
        for (route, histogram) in times {
            let labels = format!("route=\"{route}\",");
            histogram.write(&mut out, &format!("headstart_{name}"), &labels, &TIMES);
        }
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone();
        out += &head("batch_images", "histogram", "Images that were computed together.");
        batches.write(&mut out, "headstart_batch_images", "", &BATCHES);
        let seconds = self.computing.load(Ordering::Relaxed) as f64 / 1e6;
        let numbers = [
            ("images_total", "counter", "Images that were computed.", batches.sum),
            ("compute_seconds_total", "counter", "Time that computing them took.", seconds),
            ("queue_images", "gauge", "Images that wait or are computed.", waiting as f64),
            ("queue_images_max", "gauge", "Images beyond which a request is refused.", most as f64),
            ("models", "gauge", "Models that are served.", models as f64),
            (
                "model_changes_total",
                "counter",
                "Models loaded and taken away by requests.",
                self.changes.load(Ordering::Relaxed) as f64,
            ),
            (
                "connections",
                "gauge",
                "Open connections.",
                self.connections.load(Ordering::Relaxed) as f64,
            ),
            (
                "connections_refused_total",
                "counter",
                "Connections closed because there were too many.",
                self.refused.load(Ordering::Relaxed) as f64,
            ),
        ];
        for (name, kind, help, value) in numbers {
            out += &head(name, kind, help);
            let _ = writeln!(out, "headstart_{name} {value}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_and_every_name_has_a_type() {
        let metrics = Metrics::default();
        for (code, time) in [(200, 3), (200, 30), (503, 60_000)] {
            metrics.request("infer", code, Duration::from_millis(time));
        }
        metrics.batch(3, Duration::from_millis(5));
        metrics.batch(1000, Duration::from_millis(5));
        let text = metrics.text(7, 9, 1);
        for line in [
            "headstart_requests_total{route=\"infer\",code=\"200\"} 2",
            "headstart_requests_total{route=\"infer\",code=\"503\"} 1",
            "headstart_request_duration_seconds_bucket{route=\"infer\",le=\"0.005\"} 1",
            "headstart_request_duration_seconds_bucket{route=\"infer\",le=\"10\"} 2",
            "headstart_request_duration_seconds_bucket{route=\"infer\",le=\"+Inf\"} 3",
            "headstart_request_duration_seconds_count{route=\"infer\"} 3",
            "headstart_batch_images_bucket{le=\"4\"} 1",
            "headstart_batch_images_bucket{le=\"+Inf\"} 2",
            "headstart_batch_images_sum 1003",
            "headstart_batch_images_count 2",
            "headstart_images_total 1003",
            "headstart_queue_images 7",
            "headstart_queue_images_max 9",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in {text}");
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .fold(name, |n, end| n.strip_suffix(end).unwrap_or(n));
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
