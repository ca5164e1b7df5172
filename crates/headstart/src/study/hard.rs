//! The images that a model gets most wrong, with maps of where it looked.
//!
//! ```
//! use headstart::dataset::Split;
//! use headstart::hard::{Bounds, hard_images};
//! use headstart::{Control, Dataset, Device, Model, evaluate};
//!
//! let data = Dataset::load("synthetic:3x20x32")?;
//! let model = Model::builder("resnet20").weights("cifar10").build(&data)?;
//! let (device, parts) = (Device::cpu(0)?, data.parts(Split::Auto)?);
//! let mut watch = |_part: &str, _done: usize, _images: usize| Control::Continue;
//! let evaluated = evaluate::evaluate(&model, &data, &parts, &device, 32, &mut watch)?.unwrap();
//! let (p, labels) = (&evaluated.probabilities, &evaluated.labels);
//! let hard = hard_images(&model, &device, &parts, &evaluated.report, p, labels, &Bounds::PAGE)?;
//! assert!(hard.images.len() <= Bounds::PAGE.images());
//! # Ok::<(), headstart::Error>(())
//! ```

use std::cmp::Reverse;

use crate::control::Control;
use crate::data::dataset::Subset;
use crate::data::image::Rgb8;
use crate::data::image::picture::thumbnail;
use crate::engine::device::Device;
use crate::error::{Error, Result};
use crate::measure::metrics::Report;
use crate::measure::rank::{argmax, top};
use crate::net::model::Model;
use crate::study::gradcam::{GradCam, Heat};

/// Most pixels of the longer side of an image that is kept, and where more than [`FEW`] are.
const SIDE: usize = 448;
const SMALL: usize = 160;
const FEW: usize = 100;

/// How many images are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Misclassified images with the greatest loss.
    pub worst: usize,
    /// Pairs of classes that are confused most often.
    pub pairs: usize,
    /// Images of each pair.
    pub of_pair: usize,
    /// Correctly classified images of which the model was least sure, where there are fewer than `worst` mistakes.
    pub unsure: usize,
}

impl Bounds {
    /// For the page of a run: about a second of work for a small net.
    pub const PAGE: Bounds = Bounds { worst: 12, pairs: 3, of_pair: 4, unsure: 6 };

    /// Most images.
    pub fn images(&self) -> usize {
        self.worst + self.pairs * self.of_pair + self.unsure
    }
}

/// Images that belong together, by position.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// What they have in common.
    pub title: String,
    /// Their positions, the worst first.
    pub images: Vec<usize>,
}

/// The misclassified images with the greatest loss, the most confused pairs of classes, each with the images of which the
/// model was most confident, and the right predictions that it was least sure of. Equals stay in order.
pub fn choose(report: &Report, p: &[f32], labels: &[usize], bounds: &Bounds) -> Vec<Section> {
    let n = report.classes.len().max(1);
    let row = |i: usize| &p[i * n..][..n];
    let of_label = |i: usize| row(i)[labels[i]];
    let (mut right, wrong): (Vec<usize>, Vec<usize>) =
        (0..labels.len()).partition(|&i| argmax(row(i)) == labels[i]);
    let by_loss = |list: &mut Vec<usize>, most: usize| {
        list.sort_by(|&a, &b| of_label(a).total_cmp(&of_label(b)));
        list.truncate(most);
    };
    let (mut worst, mut sections) = (wrong.clone(), Vec::new());
    by_loss(&mut worst, bounds.worst);
    if !worst.is_empty() {
        let title = format!("Worst mistakes ({} of {})", worst.len(), wrong.len());
        sections.push(Section { title, images: worst });
    }
    let mut pairs: Vec<(usize, usize, usize)> = Vec::new();
    for (label, counts) in report.confusion_matrix.iter().enumerate() {
        for (answer, &count) in counts.iter().enumerate() {
            if label != answer && count > 0 {
                pairs.push((count, label, answer));
            }
        }
    }
    pairs.sort_by_key(|&(count, ..)| Reverse(count));
    for (count, label, answer) in pairs.into_iter().take(bounds.pairs) {
        let of_pair = |&i: &usize| labels[i] == label && argmax(row(i)) == answer;
        let mut images: Vec<usize> = wrong.iter().copied().filter(of_pair).collect();
        images.sort_by(|&a, &b| row(b)[answer].total_cmp(&row(a)[answer]));
        images.truncate(bounds.of_pair);
        let (label, answer) = (&report.classes[label], &report.classes[answer]);
        let title = format!("{label} predicted as {answer} ({count})");
        sections.push(Section { title, images });
    }
    if wrong.len() < bounds.worst {
        by_loss(&mut right, bounds.unsure);
        if !right.is_empty() {
            let title = "Correct, but least certain".to_string();
            sections.push(Section { title, images: right });
        }
    }
    sections
}

/// One image and what the model makes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct HardImage {
    /// Its path, as [`Subset::path`] has it.
    pub name: String,
    /// The image, with at most 448 pixels on its longer side, 160 where there may be more than 100 images.
    pub image: Rgb8<'static>,
    /// Its class.
    pub label: usize,
    /// The most probable class.
    pub predicted: usize,
    /// The class that it is compared with: the true one of a mistake, else the second most probable.
    pub other: usize,
    /// Probabilities of all classes.
    pub probabilities: Vec<f32>,
    /// Where the net looked for the predicted and for the other class; none for nets that Grad-CAM does not know.
    pub maps: Option<[Heat; 2]>,
}

/// Images by section, each once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HardImages {
    /// The images.
    pub images: Vec<HardImage>,
    /// Sections over positions in `images`.
    pub sections: Vec<Section>,
}

/// [`choose`]s among the images of `parts`, whose class probabilities are `p`, `[images, classes]` row-major, part after part,
/// and computes maps for the chosen; those that cannot be read any more are left out.
///
/// # Errors
/// If there are not as many probabilities and labels as images, or a map cannot be computed.
pub fn hard_images(
    model: &Model,
    device: &Device,
    parts: &[(&'static str, &Subset)],
    report: &Report,
    p: &[f32],
    labels: &[usize],
    bounds: &Bounds,
) -> Result<HardImages> {
    let mut go_on = |_, _| Control::Continue;
    let found = hard_images_with(model, device, parts, report, p, labels, bounds, &mut go_on)?;
    Ok(found.unwrap_or_default())
}

/// [`hard_images`]; `watch` gets how many images are done, and of how many at most. `None` if it said to stop.
#[expect(clippy::too_many_arguments, reason = "those of hard_images and one more")]
pub(crate) fn hard_images_with(
    model: &Model,
    device: &Device,
    parts: &[(&'static str, &Subset)],
    report: &Report,
    p: &[f32],
    labels: &[usize],
    bounds: &Bounds,
    watch: &mut dyn FnMut(usize, usize) -> Control,
) -> Result<Option<HardImages>> {
    let count: usize = parts.iter().map(|part| part.1.len()).sum();
    let n = report.classes.len();
    if labels.len() != count || p.len() != count * n || n != model.card.classes.len() {
        let expected = format!("those of {count} images, {} classes", model.card.classes.len());
        let found = format!("{} labels, {} values, {n} classes", labels.len(), p.len());
        return Err(Error::invalid("probabilities", expected, found, ""));
    }
    let mut cam = GradCam::new(model, device).ok();
    let side = if bounds.images() > FEW { SMALL } else { SIDE };
    let mut found = HardImages::default();
    let mut known: Vec<(usize, Option<usize>)> = Vec::new();
    let sections = choose(report, p, labels, bounds);
    let mut all: Vec<usize> = sections.iter().flat_map(|section| section.images.clone()).collect();
    all.sort_unstable();
    all.dedup();
    for section in sections {
        let mut images = Vec::new();
        for i in section.images {
            if let Some((_, at)) = known.iter().find(|k| k.0 == i) {
                images.extend(*at);
                continue;
            }
            let own = one(cam.as_mut(), parts, i, (&p[i * n..][..n], labels[i]), side)?;
            known.push((i, own.as_ref().map(|_| found.images.len())));
            if watch(known.len(), all.len()) == Control::Stop {
                return Ok(None);
            }
            if let Some(own) = own {
                images.push(found.images.len());
                found.images.push(own);
            }
        }
        if !images.is_empty() {
            found.sections.push(Section { title: section.title, images });
        }
    }
    Ok(Some(found))
}

/// Image `i` of all; `None` if it cannot be read any more.
fn one(
    cam: Option<&mut GradCam>,
    parts: &[(&'static str, &Subset)],
    i: usize,
    (p, label): (&[f32], usize),
    side: usize,
) -> Result<Option<HardImage>> {
    let mut at = i;
    let mut list = parts.iter();
    let Some((_, subset)) = list.find(|part| {
        let here = at < part.1.len();
        at -= if here { 0 } else { part.1.len() };
        here
    }) else {
        return Ok(None);
    };
    let Ok(own) = subset.image(at) else { return Ok(None) };
    let predicted = argmax(p);
    let other = match predicted == label {
        true => top(p, 2).last().copied().unwrap_or(label),
        false => label,
    };
    let maps = match cam {
        Some(cam) => {
            let target = cam.target();
            let reduced = subset.is_reduced(at, target).then(|| subset.image_for(at, target));
            let reduced = reduced.transpose()?;
            let heats =
                cam.look(reduced.as_ref().unwrap_or(&own), &[Some(predicted), Some(other)])?;
            <[Heat; 2]>::try_from(heats).ok()
        }
        None => None,
    };
    let image = match own.width.max(own.height) > side {
        true => thumbnail(&own, side)?,
        false => own.into_owned(),
    };
    let name = subset.path(at).into_owned();
    let probabilities = p.to_vec();
    Ok(Some(HardImage { name, image, label, predicted, other, probabilities, maps }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Split;
    use crate::session::config::TrainConfig;
    use crate::session::job::{build_model, open_data};

    const GALLERY: Bounds = Bounds { worst: 2, pairs: 8, of_pair: 6, unsure: 0 };

    #[test]
    fn the_worst_come_first_and_pairs_by_number() {
        let classes = ["a", "b", "c"].map(String::from);
        let p =
            [[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.0, 1.0, 0.0]];
        let (p, labels) = (p.concat(), [0, 1, 1, 2, 1]);
        let report = Report::new("test", &classes, &p, &labels);
        let sections = choose(&report, &p, &labels, &GALLERY);
        assert_eq!(sections[0].images, [2, 3]);
        assert_eq!(sections[0].title, "Worst mistakes (2 of 3)");
        assert_eq!(sections[1].title, "b predicted as a (2)");
        assert_eq!((&sections[1].images[..], &sections[2].images[..]), (&[2, 1][..], &[3][..]));
        let few =
            choose(&report, &p, &labels, &Bounds { worst: 4, pairs: 1, of_pair: 1, unsure: 1 });
        let images: Vec<&[usize]> = few.iter().map(|s| &s.images[..]).collect();
        assert_eq!(images, [&[2, 3, 1][..], &[2], &[0]]);
        assert_eq!(few[2].title, "Correct, but least certain");
    }

    #[test]
    fn without_mistakes_there_are_no_mistakes() {
        let classes = ["a", "b"].map(String::from);
        let p = [0.9, 0.1, 0.2, 0.8];
        let report = Report::new("test", &classes, &p, &[0, 1]);
        assert!(choose(&report, &p, &[0, 1], &GALLERY).is_empty());
        assert_eq!(choose(&report, &p, &[0, 1], &Bounds::PAGE)[0].images, [1, 0]);
    }

    #[test]
    fn each_image_is_there_once_with_its_maps() {
        let config = TrainConfig {
            data: "synthetic:3x20x32".into(),
            model: "resnet20".into(),
            weights: "none".into(),
            image_size: Some(32),
            test_split: 0.5,
            ..TrainConfig::default()
        };
        let data = open_data(&config).unwrap();
        let model = build_model(&config, &data).unwrap().0;
        let parts = data.parts(Split::All).unwrap();
        let labels: Vec<usize> = parts.iter().flat_map(|part| part.1.labels()).collect();
        // Everything is taken for the next class.
        let mut p = vec![0.1; labels.len() * 3];
        labels.iter().enumerate().for_each(|(i, label)| p[i * 3 + (label + 1) % 3] = 0.8);
        let report = Report::new("all", &data.classes, &p, &labels);
        let device = Device::cpu(1).unwrap();
        let hard = |p: &[f32], labels: &[usize]| {
            hard_images(&model, &device, &parts, &report, p, labels, &Bounds::PAGE)
        };
        let found = hard(&p, &labels).unwrap();
        assert_eq!(found.sections.len(), 4);
        assert!(found.images.len() >= 12 && found.images.len() <= Bounds::PAGE.images());
        let mut names: Vec<&str> = found.images.iter().map(|i| i.name.as_str()).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        for image in &found.images {
            assert_eq!(image.predicted, (image.label + 1) % 3);
            let [of_predicted, of_other] = image.maps.as_ref().unwrap();
            assert_eq!((of_predicted.class, of_other.class), (image.predicted, image.label));
        }
        assert!(hard(&p[3..], &labels).is_err() && hard(&p, &labels[1..]).is_err());
    }
}
