//! Small nets of torchvision's own blocks: both of PyTorch's file formats, probabilities, loss, every
//! gradient, and weights and statistics after three steps (`golden/torch/generate.py`).

use std::path::PathBuf;
use std::sync::Arc;

use headstart::Compute;
use headstart::Device;
use headstart::collective::{Alone, Collective, share};
use headstart::execute::{Execute, Executor, Gradients, Input, Training, Turn, Weights};
use headstart::optimizer::{Optimizer, Rule};
use headstart::parameters::{Parameter, Parameters, Role};
use headstart::plan::{Plan, Request};
use headstart::preprocess::Preprocess;
use headstart::resnet::{
    Activation, Block, FreezePoint, Naming, Net, Recipe, Stage, Stem, Stride, Surroundings,
};
use headstart::weights::{Scope, apply, read};
use headstart_kernels::element::DType;
use safetensors::SafeTensors;

use crate::oracle::{assert_within, distance};

const BATCH: usize = 4;
const CASES: [(&str, Block); 2] = [("bottleneck", Block::Bottleneck), ("basic", Block::Basic)];

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch").join(file)
}

fn net(block: Block) -> Net {
    let recipe = Recipe {
        name: "small".into(),
        naming: Naming::Torchvision,
        stem: Stem::Imagenet,
        stem_filters: 8,
        block,
        activation: Activation::After,
        stride: Stride::Middle,
        stages: vec![
            Stage { filters: 4, blocks: 2, stride: 1 },
            Stage { filters: 6, blocks: 2, stride: 2 },
        ],
        bias: false,
        epsilon: 1e-5,
        momentum: 0.9,
        unbiased: true,
        preprocess: Preprocess::Torch,
        init: headstart::init::ConvInit::GlorotUniform,
        image_size: 32,
    };
    let around = Surroundings {
        height: 32,
        width: 32,
        preprocess: Some(Preprocess::Torch),
        upsample: 1,
        classes: Some(3),
    };
    Net::new(&recipe, &around).unwrap()
}

struct Golden(Vec<u8>);

impl Golden {
    fn get(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
        let values = tensor.data().chunks_exact(4);
        values.map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
    }

    fn narrow(&self, name: &str) -> Vec<f32> {
        self.get(name).into_iter().map(|v| v as f32).collect()
    }

    /// A tensor under PyTorch's name, in our layout.
    fn like(&self, prefix: &str, net: &Net, t: &Parameter) -> Vec<f64> {
        let layer = &net.graph.nodes[t.node].name;
        let kind = match t.role {
            Role::Kernel | Role::Gamma => "weight",
            Role::Bias | Role::Beta => "bias",
            Role::MovingMean => "running_mean",
            Role::MovingVariance => "running_var",
        };
        let values = self.get(&format!("{prefix}/{layer}.{kind}"));
        let mut turned = values.clone();
        match t.shape[..] {
            [height, width, inputs, out] => {
                for y in 0..height {
                    for x in 0..width {
                        for c in 0..inputs {
                            for o in 0..out {
                                turned[((y * width + x) * inputs + c) * out + o] =
                                    values[((o * inputs + c) * height + y) * width + x];
                            }
                        }
                    }
                }
            }
            [inputs, out] => {
                for c in 0..inputs {
                    for o in 0..out {
                        turned[c * out + o] = values[o * inputs + c];
                    }
                }
            }
            _ => {}
        }
        turned
    }
}

fn load(net: &Net, file: &str) -> Parameters {
    let mut p = Parameters::zeros(&net.graph);
    let report = apply(&read(path(file)).unwrap(), net, &mut p, Scope::All).unwrap();
    assert!(report.missing.is_empty() && report.unused.is_empty(), "{file}: {report}");
    p
}

#[test]
fn both_formats_hold_the_same_net_and_it_computes_the_same() {
    for (name, block) in CASES {
        let net = net(block);
        let golden = Golden(std::fs::read(path(&format!("{name}.expected.safetensors"))).unwrap());
        let p = load(&net, &format!("{name}.pth"));
        assert_eq!(p, load(&net, &format!("{name}.safetensors")));
        let compute = Arc::new(Compute::new(2).unwrap());
        let outputs = vec![net.graph.output()];
        let request =
            Request { batch: BATCH, sources: vec![0], outputs, trainable: None, dtype: DType::F32 };
        let plan = Plan::new(&net.graph, request).unwrap();
        let mut e = Executor::new(Arc::clone(&net.graph), plan, compute, &p, 0).unwrap();
        e.forward(&[(&golden.narrow("images")).into()], BATCH).unwrap();
        assert_within(distance(e.output(0, BATCH), &golden.get("inference")), 2e-5, name);
    }
}

#[test]
fn gradients_and_three_steps_are_those_of_pytorch() {
    for (name, block) in CASES {
        let net = net(block);
        let golden = Golden(std::fs::read(path(&format!("{name}.expected.safetensors"))).unwrap());
        let mut p = load(&net, &format!("{name}.pth"));
        let compute = Arc::new(Compute::new(2).unwrap());
        let trainable = Some(net.trainable(FreezePoint(0)));
        let request = Request {
            batch: BATCH,
            sources: vec![0],
            outputs: vec![],
            trainable,
            dtype: DType::F32,
        };
        let plan = Plan::new(&net.graph, request).unwrap();
        let graph = Arc::clone(&net.graph);
        let mut e = Executor::new(graph, plan, Arc::clone(&compute), &p, 0).unwrap();
        let mut gradients = Gradients::default();
        e.prepare(Training::new(Optimizer::new(Rule::SGD, 0.01).unwrap())).unwrap();
        let images = golden.narrow("images");
        let labels: Vec<u32> = golden.get("labels").into_iter().map(|l| l as u32).collect();
        for (i, loss) in golden.get("losses").into_iter().enumerate() {
            let turn = Turn { step: i as u64, replica: 0 };
            let r = e.train_step(&[(&images).into()], (&labels).into(), turn).unwrap();
            e.gradients(&mut gradients).unwrap();
            let what = format!("{name}: loss of step {i}");
            assert_within((f64::from(r.loss) - loss).abs(), 1e-4 * loss, &what);
            if i == 0 {
                for (t, g) in p.tensors.iter().zip(&gradients.tensors).filter(|g| !g.1.is_empty()) {
                    let torch = golden.like("gradient", &net, t);
                    assert_within(distance(g, &torch), 5e-4, &format!("{name}: {}", t.name));
                }
            }
            e.update(0.01).unwrap();
        }
        e.download(Weights::Current, &mut p).unwrap();
        for t in &p.tensors {
            let torch = golden.like("after", &net, t);
            assert_within(distance(&t.values, &torch), 1e-4, &format!("{name}: after, {}", t.name));
        }
    }
}

/// `golden/torch/ddp.py`: two processes of `DistributedDataParallel`, here two replicas of one batch.
#[test]
fn two_replicas_are_two_processes_of_pytorch() {
    let net = net(Block::Basic);
    let golden = Golden(std::fs::read(path("ddp.expected.safetensors")).unwrap());
    let mut p = load(&net, "basic.pth");
    let (sources, outputs) = (vec![0], vec![]);
    let trainable = Some(net.trainable(FreezePoint(0)));
    let request = Request { batch: BATCH, sources, outputs, trainable, dtype: DType::F32 };
    let mut e = Device::cpu(2).unwrap().executor(&net.graph, request, &p, 0).unwrap();
    let rule = Rule::Sgd { momentum: 0.9, nesterov: false };
    e.prepare(Training::new(Optimizer::new(rule, 0.01).unwrap())).unwrap();
    let images = golden.narrow("images");
    let labels: Vec<u32> = golden.get("labels").into_iter().map(|l| l as u32).collect();
    let count = labels.len();
    for (i, loss) in golden.get("losses").into_iter().enumerate() {
        let mut total = 0.0;
        for replica in 0..2 {
            let range = share(count, replica, 2);
            let input = Input::from(&images).part(count, range.clone());
            let turn = Turn { step: i as u64, replica };
            let r = e.train_step(&[input], labels[range].into(), turn).unwrap();
            total += f64::from(r.loss) / 2.0;
            e.accumulate().unwrap();
        }
        e.reduce(count, &mut |own, sum| Alone.all_reduce(own, sum)).unwrap();
        assert_within((total - loss).abs(), 1e-4 * loss, &format!("loss of step {i}"));
        if i == 0 {
            let mut gradients = Gradients::default();
            e.gradients(&mut gradients).unwrap();
            for (t, g) in p.tensors.iter().zip(&gradients.tensors).filter(|g| !g.1.is_empty()) {
                let torch = golden.like("gradient", &net, t);
                assert_within(distance(g, &torch), 5e-4, &t.name);
            }
        }
        e.update(0.01).unwrap();
    }
    e.download(Weights::Current, &mut p).unwrap();
    for t in &p.tensors {
        let torch = golden.like("after", &net, t);
        assert_within(distance(&t.values, &torch), 1e-4, &format!("after, {}", t.name));
    }
}

#[test]
fn damaged_and_hostile_files_are_errors_and_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.pth");
    let good = std::fs::read(path("basic.pth")).unwrap();
    let net = net(Block::Basic);
    for cut in (20..good.len()).step_by(good.len() / 50) {
        std::fs::write(&file, &good[..cut]).unwrap();
        let mut p = Parameters::zeros(&net.graph);
        let result = read(&file).and_then(|f| apply(&f, &net, &mut p, Scope::All));
        assert!(result.is_err(), "{cut} of {}", good.len());
    }
    for at in (0..good.len()).step_by(97) {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        std::fs::write(&file, bad).unwrap();
        let mut p = Parameters::zeros(&net.graph);
        let _ = read(&file).and_then(|f| apply(&f, &net, &mut p, Scope::All));
    }
    // A pickle that calls os.system("id"): parsed, never executed, and refused.
    std::fs::write(&file, b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.").unwrap();
    assert!(read(&file).is_err());
}
