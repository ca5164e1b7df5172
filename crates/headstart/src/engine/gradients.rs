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
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Accumulated {
    /// The replica.
    pub replica: usize,
    pub sum: Gradients,
}

impl Accumulated {
    /// None yet, of this replica.
    pub fn of(replica: usize) -> Accumulated {
        Accumulated { replica, sum: Gradients::default() }
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
        (0..gradients.tensors.len()).for_each(|i| self.add_tensor(i, gradients, images));
    }

    /// The same of one tensor, for which there is room.
    pub fn add_tensor(&mut self, number: usize, gradients: &Gradients, images: usize) {
        let (sum, tensor) = (&mut self.sum.tensors[number], &gradients.tensors[number]);
        sum.iter_mut().zip(tensor).for_each(|(s, g)| *s += images as f32 * g);
    }

    /// Starts a new sum.
    pub fn clear(&mut self) {
        self.sum.tensors.iter_mut().for_each(|tensor| tensor.fill(0.0));
    }
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
