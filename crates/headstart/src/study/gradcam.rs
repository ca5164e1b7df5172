//! Where in an image a model sees a class: Grad-CAM.
//!
//! Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
//! Localization", equations 1 and 2) weights each channel of a feature map with the mean of the class score's
//! gradient over the map, and takes the positive part of the weighted sum. For a score that is a dense
//! layer over the global average pooling of the map, that gradient is the layer's weight over the number
//! of pixels, the same everywhere, and the result is the class activation map of Zhou et al. 2016
//! ("Learning Deep Features for Discriminative Localization") over the number of pixels. Every net here ends like this, and
//! the map is that of its last layer before the pooling.
//!
//! ```
//! use headstart::gradcam::{GradCam, overlay};
//! use headstart::{Dataset, Device, Model};
//!
//! let data = Dataset::load("sample")?;
//! let model = Model::builder("resnet20").weights("cifar10").build(&data)?;
//! let mut cam = GradCam::new(&model, &Device::cpu(0)?)?;
//! let image = data.train.image(0)?;
//! let heat = &cam.look(&image, &[None])?[0]; // of the most probable class
//! let drawn = overlay(&image, heat); // lines where the map is at 25, 50 and 75% of its greatest value
//! assert_eq!((drawn.height, drawn.width), (image.height, image.width));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod contours;
mod draw;

pub use crate::data::image::picture::{enlarged, png, thumbnail};
use crate::data::image::{Resizer, Rgb8, Target, Window};
use crate::engine::device::Device;
use crate::engine::execute::Execute;
use crate::engine::inference::{executor, read_floats};
use crate::error::{Error, Result};
use crate::measure::rank::argmax;
use crate::measure::rank::softmax;
use crate::net::graph::{Graph, NodeId, Op, Shape};
use crate::net::model::Model;
use crate::net::parameters::Role;

pub use contours::{LEVELS, contours};
pub(crate) use draw::colour;
pub use draw::{map_picture, overlay};

/// Heat map of a class in an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Heat {
    /// Rows of the map.
    pub height: usize,
    /// Columns of the map.
    pub width: usize,
    /// The map, row-major, 0 or more; all 0 where no part of the image supports the class.
    pub values: Vec<f32>,
    /// The class.
    pub class: usize,
    /// Probabilities of all classes.
    pub probabilities: Vec<f32>,
    /// The part of the image that the map covers.
    pub window: Window,
}

/// Computes maps of one model.
#[derive(Debug)]
pub struct GradCam {
    executor: Box<dyn Execute>,
    height: usize,
    width: usize,
    channels: usize,
    /// Gradient of each class score with respect to each channel of a pixel, `[channels, classes]`.
    gradient: Vec<f32>,
    classes: usize,
    temperature: f64,
    target: Target,
}

/// The node whose map is shown, if the scores are a dense layer over its global average pooling (dropout
/// between them does nothing outside of training).
fn map_node(graph: &Graph, logits: NodeId) -> Option<NodeId> {
    let input = |id: NodeId| graph.nodes[id].inputs.first().copied();
    let mut at = matches!(graph.nodes[logits].op, Op::Dense { .. }).then(|| input(logits))??;
    while matches!(graph.nodes[at].op, Op::Dropout { .. }) {
        at = input(at)?;
    }
    matches!(graph.nodes[at].op, Op::GlobalAveragePool).then(|| input(at))?
}

impl GradCam {
    /// Prepares maps of `model`.
    ///
    /// # Errors
    /// If the model's scores are not a dense layer over a global average pooling.
    pub fn new(model: &Model, device: &Device) -> Result<GradCam> {
        let (graph, logits) = (&model.net.graph, model.logits());
        let node = map_node(graph, logits);
        let kernel = model.parameters.get(logits, Role::Kernel);
        let (Some(node), Some(kernel)) = (node, kernel) else {
            let expected = "a net that ends in global average pooling and a dense layer";
            return Err(Error::invalid("Grad-CAM", expected, "another", ""));
        };
        let Shape::Map { height, width, channels } = graph.nodes[node].shape else {
            return Err(Error::invalid("Grad-CAM", "a feature map", "a vector", ""));
        };
        let pixels = (height * width) as f32;
        Ok(GradCam {
            executor: executor(model, device, 1, &[0], &[node, logits])?,
            height,
            width,
            channels,
            gradient: kernel.values.iter().map(|w| w / pixels).collect(),
            classes: model.card.classes.len(),
            temperature: model.card.temperature.unwrap_or(1.0),
            target: model.target(),
        })
    }

    /// What images become before they enter the net.
    pub(crate) fn target(&self) -> Target {
        self.target
    }

    /// The gradient of the score of `class` with respect to each channel of any pixel of the map.
    pub fn gradient(&self, class: usize) -> Vec<f32> {
        self.gradient.iter().skip(class).step_by(self.classes).copied().collect()
    }

    /// The maps of several classes over an image of any size, none meaning the most probable one; the net runs once. The
    /// maps suit the image at every size: of a large JPEG, look at what [`Target::open`] makes of it to see what
    /// [`Model::predict`] does, and draw on all pixels.
    ///
    /// # Errors
    /// If there is no such class, or the image cannot be resized.
    pub fn look(&mut self, image: &Rgb8<'_>, classes: &[Option<usize>]) -> Result<Vec<Heat>> {
        let pixels = self.target.enter(&mut Resizer::new(), image)?;
        let window = self.target.window(image.width, image.height);
        let heats = self.heats(&pixels, classes)?;
        Ok(heats.into_iter().map(|heat| Heat { window, ..heat }).collect())
    }

    /// The map of `class`, or of the most probable one, for an image of the model's size, RGB.
    ///
    /// # Errors
    /// If the image has not the model's size or there is no such class.
    pub fn heat(&mut self, pixels: &[u8], class: Option<usize>) -> Result<Heat> {
        self.heats(pixels, &[class]).map(|mut heats| heats.remove(0))
    }

    /// The maps of several classes, none meaning the most probable one; the net runs once.
    ///
    /// # Errors
    /// As [`GradCam::heat`].
    pub fn heats(&mut self, pixels: &[u8], classes: &[Option<usize>]) -> Result<Vec<Heat>> {
        if let Some(class) = classes.iter().flatten().find(|&&c| c >= self.classes) {
            let expected = format!("below {}", self.classes);
            return Err(Error::invalid("class", expected, class.to_string(), ""));
        }
        self.executor.forward(&[pixels.into()], 1)?;
        let logits = read_floats(&mut *self.executor, 1)?;
        let probabilities = softmax(self.classes, &logits, self.temperature);
        let map = read_floats(&mut *self.executor, 0)?;
        let heat = |class: &Option<usize>| {
            let class = class.unwrap_or_else(|| argmax(&probabilities));
            let alpha = self.gradient(class);
            let values = map
                .chunks_exact(self.channels)
                .map(|a| a.iter().zip(&alpha).map(|(a, w)| a * w).sum::<f32>().max(0.0))
                .collect();
            let (height, width) = (self.height, self.width);
            let (probabilities, window) = (probabilities.clone(), Window::WHOLE);
            Heat { height, width, values, class, probabilities, window }
        };
        Ok(classes.iter().map(heat).collect())
    }
}

impl Heat {
    /// The map's value at a point of the image, as a fraction of its greatest; `x` and `y` go from 0 to 1 from left to right
    /// and from top to bottom. Bilinear between the centres of the map's pixels, level beyond the outermost; 0 where the
    /// map does not reach.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        if !self.covers(x, y) {
            return 0.0;
        }
        let (x, y) = self.inside(x, y);
        self.part_of(self.most(), x, y)
    }

    /// A point of the image as one of the map.
    fn inside(&self, x: f32, y: f32) -> (f32, f32) {
        let Window { left, top, width, height } = self.window;
        ((x - left) / width, (y - top) / height)
    }

    /// Whether the net has seen this point of the image.
    pub fn covers(&self, x: f32, y: f32) -> bool {
        let (x, y) = self.inside(x, y);
        (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y)
    }

    /// The map's greatest value.
    fn most(&self) -> f32 {
        self.values.iter().copied().fold(0.0, f32::max)
    }

    /// The value at a point of the map, as a fraction of the greatest, which takes as long to look for as the map is large.
    fn part_of(&self, most: f32, x: f32, y: f32) -> f32 {
        // A NaN counts as nothing.
        if !(most > 0.0 && most.is_finite()) || self.values.len() != self.height * self.width {
            return 0.0;
        }
        let place = |p: f32, n: usize| {
            let p = (p * n as f32 - 0.5).clamp(0.0, (n - 1) as f32);
            let low = p as usize;
            (low, (low + 1).min(n - 1), p - low as f32)
        };
        let ((x0, x1, fx), (y0, y1, fy)) = (place(x, self.width), place(y, self.height));
        let value = |y: usize, x: usize| self.values[y * self.width + x];
        let top = value(y0, x0) * (1.0 - fx) + value(y0, x1) * fx;
        let bottom = value(y1, x0) * (1.0 - fx) + value(y1, x1) * fx;
        (top * (1.0 - fy) + bottom * fy) / most
    }

    /// Whether no part of the image supports the class.
    pub fn is_empty(&self) -> bool {
        !self.values.iter().any(|v| *v > 0.0)
    }
}

/// An image at the model's size as [`GradCam::heat`] takes it.
///
/// # Errors
/// If it cannot be resized.
pub fn enter(model: &Model, image: &Rgb8<'_>) -> Result<Vec<u8>> {
    model.target().enter(&mut Resizer::new(), image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::config::TrainConfig;
    use crate::session::job::{build_model, open_data};

    fn model(name: &str) -> Model {
        let config = TrainConfig {
            data: "synthetic:3x20x32".into(),
            model: name.into(),
            weights: "none".into(),
            image_size: Some(32),
            ..TrainConfig::default()
        };
        build_model(&config, &open_data(&config).unwrap()).unwrap().0
    }

    #[test]
    fn the_gradient_is_the_numeric_derivative_of_the_class_score() {
        let device = crate::Device::cpu(1).unwrap();
        for name in ["resnet20", "resnet50v2", "torchvision-resnet18"] {
            let model = model(name);
            let cam = GradCam::new(&model, &device).unwrap();
            let node = map_node(&model.net.graph, model.logits()).unwrap();
            let mut rest = executor(&model, &device, 1, &[node], &[model.logits()]).unwrap();
            let elements = model.net.graph.nodes[node].shape.elements();
            let map: Vec<f32> = (0..elements).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
            let channels = cam.channels;
            let mut score = |map: &[f32], class: usize| {
                rest.forward(&[map.into()], 1).unwrap();
                f64::from(read_floats(&mut *rest, 0).unwrap()[class])
            };
            for class in 0..3 {
                let gradient = cam.gradient(class);
                for at in [0, channels / 2, channels - 1, elements - 1, elements / 2] {
                    let mut moved = map.clone();
                    moved[at] += 8.0;
                    let slope = (score(&moved, class) - score(&map, class)) / 8.0;
                    let error = (slope - f64::from(gradient[at % channels])).abs();
                    assert!(error <= 1e-5, "{name} {class} {at}: {slope} {error}");
                }
            }
        }
    }

    #[test]
    fn a_map_is_the_positive_part_of_the_weighted_channels() {
        let device = crate::Device::cpu(1).unwrap();
        let model = model("resnet20");
        let mut cam = GradCam::new(&model, &device).unwrap();
        let pixels: Vec<u8> = (0..32 * 32 * 3).map(|i| (i * 7 % 256) as u8).collect();
        let heat = cam.heat(&pixels, None).unwrap();
        assert_eq!(heat.class, argmax(&heat.probabilities));
        assert_eq!(heat.values.len(), heat.height * heat.width);
        assert!(heat.values.iter().all(|v| *v >= 0.0));
        let one = cam.heat(&pixels, Some(1)).unwrap();
        assert!(one.class == 1 && one.probabilities == heat.probabilities);
        assert!(cam.heat(&pixels, Some(3)).is_err());
        assert!(cam.heat(&pixels[1..], None).is_err());
    }

    #[test]
    fn several_maps_are_those_of_one_by_one() {
        let model = model("resnet20");
        let mut cam = GradCam::new(&model, &crate::Device::cpu(1).unwrap()).unwrap();
        let pixels: Vec<u8> = (0..32 * 32 * 3).map(|i| (i * 11 % 256) as u8).collect();
        let both = cam.heats(&pixels, &[Some(2), None]).unwrap();
        assert_eq!(both[0], cam.heat(&pixels, Some(2)).unwrap());
        assert_eq!(both[1], cam.heat(&pixels, None).unwrap());
    }

    #[test]
    fn a_map_is_read_at_any_point() {
        let heat = |values: Vec<f32>| Heat {
            height: 1,
            width: 2,
            values,
            class: 0,
            probabilities: vec![1.0],
            window: Window::WHOLE,
        };
        let map = heat(vec![0.0, 4.0]);
        let at = [0.0, 0.25, 0.5, 0.75, 1.0].map(|x| map.at(x, 0.3));
        assert_eq!(at, [0.0, 0.0, 0.5, 1.0, 1.0]);
        assert!(heat(vec![0.0, 0.0]).is_empty() && heat(vec![0.0, 0.0]).at(0.5, 0.5) == 0.0);
        assert_eq!(heat(vec![f32::NAN, f32::INFINITY]).at(0.5, 0.5), 0.0);
        assert_eq!(heat(vec![1.0]).at(0.5, 0.5), 0.0);
    }
}
