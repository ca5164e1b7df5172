//! Gradients and results of a training step.

/// Gradients in the order of [`Parameters::tensors`](crate::net::parameters::Parameters::tensors); empty for what is not trained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradients {
    /// One tensor per parameter.
    pub tensors: Vec<Vec<f32>>,
}

impl Gradients {
    /// Scales all tensors by one factor so that their global norm is at most `most` (Keras's
    /// `global_clipnorm`; Pascanu et al. 2013). A norm that is not a number is left for the loss to show.
    pub fn clip_norm(&mut self, most: f32) {
        let square = |t: &Vec<f32>| t.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
        let norm = self.tensors.iter().map(square).sum::<f64>().sqrt();
        if norm > f64::from(most) {
            let factor = (f64::from(most) / norm) as f32;
            self.tensors.iter_mut().flatten().for_each(|g| *g *= factor);
        }
    }

    /// Clips every element to `-most..=most` (Keras's `clipvalue`).
    pub fn clip_value(&mut self, most: f32) {
        self.tensors.iter_mut().flatten().for_each(|g| *g = g.clamp(-most, most));
    }
}

/// The sum of a replica's gradients of several steps, weighted by their images.
#[derive(Clone, Debug, Default)]
pub(super) struct Accumulated {
    /// The replica.
    pub replica: usize,
    sum: Gradients,
    /// Whether nothing was added since the sum began: the values are old ones, and count as zeros.
    is_empty: bool,
}

impl Accumulated {
    /// None yet, of this replica.
    pub fn of(replica: usize) -> Accumulated {
        Accumulated { replica, sum: Gradients::default(), is_empty: true }
    }

    /// Makes room for sums of such gradients.
    pub fn fit(&mut self, gradients: &Gradients) {
        if self.sum.tensors.len() != gradients.tensors.len() {
            self.sum.tensors = gradients.tensors.iter().map(|t| vec![0.0; t.len()]).collect();
        }
    }

    /// Adds the mean gradients of `images` images.
    pub fn add(&mut self, gradients: &Gradients, images: usize) {
        self.fit(gradients);
        let count = images as f32;
        for (sum, tensor) in self.sum.tensors.iter_mut().zip(&gradients.tensors) {
            let pairs = sum.iter_mut().zip(tensor);
            match self.is_empty {
                true => pairs.for_each(|(s, g)| *s = first(count, *g)),
                false => pairs.for_each(|(s, g)| *s += count * g),
            }
        }
        self.is_empty = false;
    }

    /// The sum of a tensor, added to what `to` has.
    pub fn append(&self, number: usize, to: &mut Vec<f32>) {
        let tensor = &self.sum.tensors[number];
        match self.is_empty {
            true => to.resize(to.len() + tensor.len(), 0.0),
            false => to.extend_from_slice(tensor),
        }
    }

    /// The same as if the mean gradients of `images` images were added before.
    pub fn append_with(
        &self,
        number: usize,
        (gradients, images): (&Gradients, usize),
        to: &mut Vec<f32>,
    ) {
        let (sum, tensor) = (&self.sum.tensors[number], &gradients.tensors[number]);
        let count = images as f32;
        match self.is_empty {
            true => to.extend(tensor.iter().map(|g| first(count, *g))),
            false => to.extend(sum.iter().zip(tensor).map(|(s, g)| s + count * g)),
        }
    }

    /// The sum of a tensor.
    pub fn tensor(&self, number: usize) -> &[f32] {
        &self.sum.tensors[number]
    }

    /// Makes an empty sum zeros.
    pub fn settle(&mut self) {
        if self.is_empty {
            self.sum.tensors.iter_mut().for_each(|tensor| tensor.fill(0.0));
            self.is_empty = false;
        }
    }

    /// Starts a new sum.
    pub fn clear(&mut self) {
        self.is_empty = true;
    }
}

/// What the first of a sum's gradients adds to zero, which makes 0 of -0.
fn first(count: f32, gradient: f32) -> f32 {
    0.0 + count * gradient
}

/// What a training step measured before its update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// Mean categorical cross-entropy of the batch.
    pub loss: f32,
    /// Images whose most probable class was the label.
    pub correct: usize,
    /// Images in the batch.
    pub count: usize,
}
