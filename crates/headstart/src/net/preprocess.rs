//! Pixel normalisation: the affine map from RGB bytes to what a set of weights expects.
//!
//! ```
//! use headstart::preprocess::Preprocess;
//!
//! // "tf" brings bytes to -1..=1.
//! let map = Preprocess::Tf.channel_map();
//! assert!((255.0 * map.scale[0] + map.offset[0] - 1.0).abs() < 1e-6);
//! ```

use serde::{Deserialize, Serialize};

/// A preprocessing convention, named as Keras names it (`mode=` of `imagenet_utils`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preprocess {
    /// RGB -> BGR, then minus the ImageNet means 103.939, 116.779, 123.68; no scaling.
    Caffe,
    /// `x / 127.5 - 1`, channels stay RGB.
    Tf,
    /// `(x / 255 - mean) / std` with torchvision's ImageNet mean and std, channels stay RGB.
    Torch,
    /// `x / 255`, channels stay RGB.
    Unit,
}

/// Output channel `c` is `pixel[source[c]] * scale[c] + offset[c]`, pixels RGB in 0..=255.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelMap {
    /// Which RGB channel feeds output channel `c`.
    pub source: [usize; 3],
    /// Factor per output channel.
    pub scale: [f32; 3],
    /// Summand per output channel.
    pub offset: [f32; 3],
}

impl Preprocess {
    /// The affine map of this convention.
    pub fn channel_map(self) -> ChannelMap {
        match self {
            Preprocess::Caffe => ChannelMap {
                source: [2, 1, 0],
                scale: [1.0; 3],
                offset: [-103.939, -116.779, -123.68],
            },
            Preprocess::Tf => {
                ChannelMap { source: [0, 1, 2], scale: [1.0 / 127.5; 3], offset: [-1.0; 3] }
            }
            Preprocess::Torch => {
                const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
                const STD: [f32; 3] = [0.229, 0.224, 0.225];
                ChannelMap {
                    source: [0, 1, 2],
                    scale: STD.map(|s| 1.0 / (255.0 * s)),
                    offset: std::array::from_fn(|c| -MEAN[c] / STD[c]),
                }
            }
            Preprocess::Unit => {
                ChannelMap { source: [0, 1, 2], scale: [1.0 / 255.0; 3], offset: [0.0; 3] }
            }
        }
    }

    /// The name as the command line and model files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Preprocess::Caffe => "caffe",
            Preprocess::Tf => "tf",
            Preprocess::Torch => "torch",
            Preprocess::Unit => "unit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of Keras's `preprocess_input`; `tests/golden/preprocess/generate.py` made them.
    #[test]
    fn every_convention_is_that_of_keras() {
        let text = include_str!("../../tests/golden/preprocess/preprocess.json");
        let doc: serde_json::Value = serde_json::from_str(text).unwrap();
        let numbers = |value: &serde_json::Value| -> Vec<f32> {
            value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
        };
        let pixels = numbers(&doc["pixels"]);
        for preprocess in [Preprocess::Caffe, Preprocess::Tf, Preprocess::Torch, Preprocess::Unit] {
            let m = preprocess.channel_map();
            let want = numbers(&doc["modes"][preprocess.name()]);
            assert_eq!(want.len(), pixels.len());
            for (i, &want) in want.iter().enumerate() {
                let c = i % 3;
                let ours = pixels[i - c + m.source[c]] * m.scale[c] + m.offset[c];
                let difference: f32 = (ours - want).abs();
                assert!(difference <= 2e-5, "{}: {ours} {want}", preprocess.name());
            }
        }
    }
}
