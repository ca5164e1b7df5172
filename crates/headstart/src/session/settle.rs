//! What `--device auto` comes to: the processor and the GPU are timed on the net itself, in training steps where the job trains
//! it, and the answer is kept on this machine. A GPU whose probabilities or gradients are not those of the processor is not
//! taken.

use crate::engine::device::Device;
use crate::error::Result;
use crate::net::model::Model;
use crate::session::config::{DeviceChoice, Precision};
use crate::study::bench::Part;
use crate::train::trainer::Phase;

/// What takes most of the time of these phases: training steps from the first layer that any of them trains, or the passes
/// through the frozen net.
pub fn busiest(phases: &[Phase]) -> Part {
    let trains = phases.iter().filter(|phase| phase.epochs > 0);
    let first = trains.filter_map(|phase| phase.from).min();
    first.map_or(Part::Forward, Part::FineTune)
}

/// The device for `part` of the work with `model` in batches of `batch` images, and why it is that one, where there was a choice: as
/// [`device`](super::job::device) opened it, unless `auto` finds a GPU that is faster. A GPU has no bf16, so it is not asked
/// where that is wanted; where f16 is, it is open already. Software is never taken for one.
///
/// # Errors
/// If the processor cannot run the net.
pub fn settle(
    device: Device,
    choice: DeviceChoice,
    precision: Precision,
    model: &Model,
    (part, batch): (Part, usize),
) -> Result<(Device, Option<String>)> {
    if choice != DeviceChoice::Auto || matches!(precision, Precision::Bf16 | Precision::F16) {
        return Ok((device, None));
    }
    #[cfg(feature = "gpu")]
    return auto::settle(device, model, (part, batch));
    #[cfg(not(feature = "gpu"))]
    {
        let _ = (model, part, batch);
        Ok((device, None))
    }
}

#[cfg(feature = "gpu")]
pub use auto::rates;

/// The choice that always means this device.
pub(crate) fn exactly(device: &Device, choice: DeviceChoice) -> DeviceChoice {
    match (choice, device) {
        (DeviceChoice::Auto, Device::Cpu(_)) => DeviceChoice::Cpu,
        #[cfg(feature = "gpu")]
        (DeviceChoice::Auto, Device::Gpu(_)) => DeviceChoice::Gpu(None),
        (choice, _) => choice,
    }
}

#[cfg(feature = "gpu")]
mod auto {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Instant;

    use headstart_gpu::{Choice, Context, Machine};
    use headstart_kernels::element::Values;
    use serde::{Deserialize, Serialize};

    use crate::engine::device::Device;
    use crate::engine::execute::Execute;
    use crate::engine::gradients::Gradients;
    use crate::engine::inference::executor;
    use crate::error::Result;
    use crate::net::model::Model;
    use crate::session::{kept as files, tiles};
    use crate::study::bench::{Part, Work};

    /// Seconds for which each device is timed.
    const TIMED: f64 = 0.5;
    /// Largest difference of two probabilities of which a GPU is trusted.
    const DIFFERENCE: f32 = 1e-3;
    /// Largest difference of two gradients of which a GPU is trusted, as a fraction of their norm; and where one is of bfloat16.
    const GRADIENTS: [f64; 2] = [0.01, 0.2];
    /// Images of the timed batch at most, which fit everywhere.
    const BATCH: usize = 32;
    /// The file in headstart's cache folder.
    const KEPT: &str = "devices.json";
    /// Entries of the file at most.
    const ENTRIES: usize = 1000;

    /// Images a second.
    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Timed {
        cpu: f64,
        /// 0 where its results were not those of the processor.
        gpu: f64,
    }

    pub(super) fn settle(
        device: Device,
        model: &Model,
        work: (Part, usize),
    ) -> Result<(Device, Option<String>)> {
        if !Machine::may_have_one() {
            return Ok((device, None));
        }
        let Ok(context) = Context::open(Choice::Any) else { return Ok((device, None)) };
        tiles::tune(&context)?;
        let gpu = Device::on(context, Arc::clone(device.compute()));
        choose(device, gpu, model, work, files::path(KEPT).as_deref())
    }

    /// The faster of two devices, by what is kept or else by the clock.
    pub(super) fn choose(
        cpu: Device,
        gpu: Device,
        model: &Model,
        (part, batch): (Part, usize),
        kept: Option<&Path>,
    ) -> Result<(Device, Option<String>)> {
        let batch = batch.min(BATCH);
        let trained = match part {
            Part::FineTune(from) => format!(" trained from {}", from.0),
            _ => String::new(),
        };
        let card = &model.card;
        let key = format!(
            "{} / {} x{} / {} {}x{} by {batch}{trained} / {}",
            gpu.fingerprint(),
            cpu.fingerprint(),
            cpu.compute().threads.count(),
            card.architecture,
            card.height,
            card.width,
            env!("CARGO_PKG_VERSION"),
        );
        let mut all = kept.map(read).unwrap_or_default();
        let timed = match all.get(&key) {
            Some(timed) => *timed,
            None => {
                let timed = time(&cpu, &gpu, model, (part, batch))?;
                all.insert(key, timed);
                while all.len() > ENTRIES {
                    all.pop_first();
                }
                // Where it cannot be kept, it is timed again.
                if let Some(path) = kept {
                    files::write(path, &all);
                }
                timed
            }
        };
        let name = gpu.fingerprint();
        let Timed { cpu: own, gpu: its } = timed;
        let steps = if trained.is_empty() { "" } else { " in training steps" };
        let why = match its {
            0.0 => format!("device: CPU, because the results of {name} differ from the CPU's"),
            _ if its > own => {
                format!("device: {name}, {its:.1} images/s{steps}, where the CPU does {own:.1}")
            }
            _ => format!("device: CPU, {own:.1} images/s{steps}, where {name} does {its:.1}"),
        };
        Ok((if its > own { gpu } else { cpu }, Some(why)))
    }

    fn read(path: &Path) -> BTreeMap<String, Timed> {
        let all: BTreeMap<String, Timed> = files::read(path);
        all.into_iter().filter(|(_, t)| t.cpu.is_finite() && t.gpu.is_finite()).collect()
    }

    /// Images a second of the processor and of a GPU; of one that fails, or whose probabilities or gradients are others, 0.
    ///
    /// # Errors
    /// If the processor cannot run the net.
    pub fn rates(
        cpu: &Device,
        gpu: &Device,
        model: &Model,
        work: (Part, usize),
    ) -> Result<[f64; 2]> {
        time(cpu, gpu, model, work).map(|timed| [timed.cpu, timed.gpu])
    }

    fn time(
        cpu: &Device,
        gpu: &Device,
        model: &Model,
        (part, batch): (Part, usize),
    ) -> Result<Timed> {
        let elements = model.net.graph.nodes[0].shape.elements();
        let images: Vec<u8> = (0..batch * elements).map(|i| (i * 7919 % 251) as u8).collect();
        let (own, expected) = run(cpu, model, batch, &images)?;
        let its = match run(gpu, model, batch, &images) {
            Ok((its, found)) if agree(&found, &expected) => its,
            _ => 0.0,
        };
        if !matches!(part, Part::FineTune(_)) || its == 0.0 {
            return Ok(Timed { cpu: own, gpu: its });
        }
        let (own, expected) = steps(cpu, model, part, batch)?;
        let most = GRADIENTS[usize::from(cpu.dtype() != gpu.dtype())];
        let its = match steps(gpu, model, part, batch) {
            Ok((its, found)) if apart(&found, &expected) <= most => its,
            _ => 0.0,
        };
        Ok(Timed { cpu: own, gpu: its })
    }

    /// Images a second in training steps, and the gradients of the first.
    fn steps(device: &Device, model: &Model, part: Part, batch: usize) -> Result<(f64, Gradients)> {
        let mut work = Work::new(model.clone(), part, false, batch, device.clone())?;
        work.run()?;
        let gradients = work.gradients()?;
        let (start, mut count) = (Instant::now(), 0);
        while count == 0 || start.elapsed().as_secs_f64() < TIMED {
            work.run()?;
            count += batch;
        }
        // What is still under way ends here.
        work.gradients()?;
        Ok((count as f64 / start.elapsed().as_secs_f64(), gradients))
    }

    /// The norm of the difference over the norm.
    fn apart(found: &Gradients, expected: &Gradients) -> f64 {
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let all = |g: &Gradients| g.tensors.iter().map(Vec::len).collect::<Vec<_>>();
        if all(found) != all(expected) {
            return f64::INFINITY;
        }
        let (a, b) = (found.tensors.iter().flatten(), expected.tensors.iter().flatten());
        let difference = square(&mut a.zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        let norm = square(&mut expected.tensors.iter().flatten().map(|&b| f64::from(b)));
        match norm > 0.0 {
            true => (difference / norm).sqrt(),
            false => difference.sqrt(),
        }
    }

    /// Images a second, and the net's outputs.
    fn run(device: &Device, model: &Model, batch: usize, images: &[u8]) -> Result<(f64, Vec<f32>)> {
        let mut executor = executor(model, device, batch, &[0], &[model.output()])?;
        let mut outputs = Values::default();
        let once = |executor: &mut dyn Execute, outputs: &mut Values| {
            executor.forward(&[images.into()], batch)?;
            executor.read(0, outputs)
        };
        once(&mut *executor, &mut outputs)?;
        let (start, mut count) = (Instant::now(), 0);
        while count == 0 || start.elapsed().as_secs_f64() < TIMED {
            once(&mut *executor, &mut outputs)?;
            count += batch;
        }
        Ok((count as f64 / start.elapsed().as_secs_f64(), outputs.as_slice().to_f32()))
    }

    /// Of bfloat16 on one side less can be asked.
    fn agree(found: &[f32], expected: &[f32]) -> bool {
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= DIFFERENCE.max(0.02 * b.abs());
        found.len() == expected.len() && found.iter().zip(expected).all(close)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_faster_device_is_taken_and_remembered() {
            let model = Model::imagenet("resnet20").unwrap();
            let folder = tempfile::tempdir().unwrap();
            let kept = folder.path().join("cache").join(KEPT);
            // The clock alone decides between a device and itself; what is kept then decides again.
            let (one, two) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
            let (_, first) =
                choose(one.clone(), two.clone(), &model, (Part::Forward, 2), Some(&kept)).unwrap();
            let (_, again) =
                choose(one.clone(), two.clone(), &model, (Part::Forward, 2), Some(&kept)).unwrap();
            assert!(first.is_some() && first == again);
            let mut all = read(&kept);
            assert_eq!(all.len(), 1);
            for (timed, expected) in [
                (Timed { cpu: 1.0, gpu: 2.0 }, "2.0 images/s, where the CPU does 1.0"),
                (Timed { cpu: 3.0, gpu: 2.0 }, "CPU, 3.0 images/s"),
                (Timed { cpu: 3.0, gpu: 0.0 }, "differ"),
            ] {
                all.values_mut().for_each(|t| *t = timed);
                std::fs::write(&kept, serde_json::to_vec(&all).unwrap()).unwrap();
                let (_, why) =
                    choose(one.clone(), two.clone(), &model, (Part::Forward, 2), Some(&kept))
                        .unwrap();
                assert!(why.as_ref().unwrap().contains(expected), "{why:?}");
            }
            std::fs::write(&kept, "{ nothing").unwrap();
            assert!(read(&kept).is_empty());
        }

        #[test]
        fn training_is_timed_apart_from_inference() {
            let model = Model::imagenet("resnet20").unwrap();
            let folder = tempfile::tempdir().unwrap();
            let kept = folder.path().join(KEPT);
            let (one, two) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
            let from = model.net.freeze_point("conv4").unwrap();
            for part in [Part::Forward, Part::FineTune(from)] {
                let work = (part, 2);
                let (_, why) = choose(one.clone(), two.clone(), &model, work, Some(&kept)).unwrap();
                let why = why.unwrap();
                assert!(!why.contains("differ"), "{why}");
                assert_eq!(why.contains("training steps"), part != Part::Forward, "{why}");
            }
            assert_eq!(read(&kept).len(), 2);
        }

        #[test]
        fn other_gradients_are_not_trusted() {
            let of = |values: &[f32]| Gradients { tensors: vec![values.to_vec()] };
            assert!(apart(&of(&[3.0, 4.01]), &of(&[3.0, 4.0])) < GRADIENTS[0]);
            assert!(apart(&of(&[3.0, 5.0]), &of(&[3.0, 4.0])) > GRADIENTS[0]);
            let trusted = |found: &[f32]| apart(&of(found), &of(&[3.0, 4.0])) <= GRADIENTS[1];
            assert!(trusted(&[3.0, 4.0]) && !trusted(&[f32::NAN, 4.0]) && !trusted(&[3.0]));
        }

        #[test]
        fn other_results_are_not_trusted() {
            assert!(agree(&[0.5, 0.25], &[0.5, 0.2501]));
            assert!(!agree(&[0.5], &[0.6]) && !agree(&[f32::NAN], &[0.5]) && !agree(&[], &[0.5]));
        }
    }
}
