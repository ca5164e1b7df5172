//! Macro F1 of predictions that come batch by batch.

use crate::measure::rank::argmax;

/// Counts of each class, from which its F1 follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassCounts {
    /// Images of the class that were predicted as it, images predicted as it, and images of it.
    classes: Vec<[usize; 3]>,
}

impl ClassCounts {
    /// Of no images.
    pub fn new(classes: usize) -> ClassCounts {
        ClassCounts { classes: vec![[0; 3]; classes] }
    }

    /// Adds images with these probabilities, `[labels.len(), classes]` row-major.
    pub fn add(&mut self, probabilities: &[f32], labels: &[u32]) {
        let rows = probabilities.chunks_exact(self.classes.len().max(1));
        for (row, &label) in rows.zip(labels) {
            let (predicted, label) = (argmax(row), label as usize);
            self.classes[label][0] += usize::from(predicted == label);
            self.classes[predicted][1] += 1;
            self.classes[label][2] += 1;
        }
    }

    /// Three numbers for each class, for [`ClassCounts::merge`] in another process.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.classes.iter().flatten().map(|&count| count as u64)
    }

    /// Adds what [`ClassCounts::numbers`] gave of other images.
    pub fn merge(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for (count, other) in self.classes.iter_mut().flatten().zip(numbers) {
            *count += other as usize;
        }
    }

    /// The mean F1 of the classes that are the label of an image or were predicted: scikit-learn's
    /// `f1_score(average="macro")`. None of no images.
    pub fn macro_f1(&self) -> Option<f64> {
        let present = self.classes.iter().filter(|[_, predicted, of_it]| predicted + of_it > 0);
        // 2 precision recall / (precision + recall) = 2 hits / (predicted + of it).
        let f1 =
            present.map(|&[hits, predicted, of_it]| 2.0 * hits as f64 / (predicted + of_it) as f64);
        let (sum, count) = f1.fold((0.0, 0), |(sum, count), f1| (sum + f1, count + 1));
        (count > 0).then(|| sum / count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::metrics::Report;

    #[test]
    fn it_is_the_reports() {
        // The third class never occurs, the fourth is predicted alone.
        let names: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
        let row = |class: usize| (0..4).map(move |i| if i == class { 0.7 } else { 0.1 });
        let predicted = [0, 0, 1, 3, 1, 0, 1];
        let labels = [0u32, 1, 1, 1, 1, 0, 0];
        let p: Vec<f32> = predicted.into_iter().flat_map(row).collect();
        let mut counts = ClassCounts::new(4);
        counts.add(&p[..12], &labels[..3]);
        let mut others = ClassCounts::new(4);
        others.add(&p[12..], &labels[3..]);
        counts.merge(others.numbers());
        let labels = labels.map(|l| l as usize);
        let report = Report::new("test", &names, &p, &labels);
        let expected = report.averages.macro_average.f1;
        assert!((counts.macro_f1().unwrap() - expected).abs() <= 1e-15, "{counts:?}");
        // F1 of a: 2*2/6, of b: 2*2/7, of d: 0.
        assert!((expected - (4.0 / 6.0 + 4.0 / 7.0) / 3.0).abs() <= 1e-15);
        assert_eq!(ClassCounts::new(4).macro_f1(), None);
    }
}
