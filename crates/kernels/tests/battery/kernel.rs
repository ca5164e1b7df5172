//! What the battery asks of a kernel, how it is tried, and how far from the reference it may be.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use headstart_kernels::element::Element;
use headstart_kernels::table::Compute;
use proptest::strategy::BoxedStrategy;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::{cases, roundoff};

/// An output of the reference: values, and how far each may be off.
#[derive(Clone)]
pub struct Want {
    pub what: &'static str,
    pub values: Vec<f64>,
    pub bounds: Vec<f64>,
}

impl Want {
    /// The values alone.
    pub fn exact(what: &'static str, values: Vec<f64>) -> Want {
        let bounds = vec![0.0; values.len()];
        Want { what, values, bounds }
    }

    /// Values that are stored as elements after an error of up to `error(i)`.
    pub fn stored<E: Element>(
        what: &'static str,
        values: Vec<f64>,
        error: impl Fn(usize) -> f64,
    ) -> Want {
        let bound = |(i, value): (usize, &f64)| stored::<E>(*value, error(i));
        let bounds = values.iter().enumerate().map(bound).collect();
        Want { what, values, bounds }
    }

    /// With bounds so many times as wide.
    pub fn loosen(mut self, times: f64) -> Want {
        self.bounds.iter_mut().for_each(|bound| *bound *= times);
        self
    }

    /// Values in floats, with an error of up to `error(i)`.
    pub fn floats(what: &'static str, values: Vec<f64>, error: impl Fn(usize) -> f64) -> Want {
        Want::stored::<f32>(what, values, error)
    }
}

/// The error of a value that is rounded to an element, where it was off by `error` before.
pub fn stored<E: Element>(value: f64, error: f64) -> f64 {
    // Denormals may become zero.
    error + (value.abs() + error) * roundoff::<E>() + f64::from(f32::MIN_POSITIVE)
}

/// Rounding of one operation on floats.
pub const FLOAT: f64 = f32::EPSILON as f64 / 2.0;

/// Error of a sum of so many products of floats in any order, as a share of the sum of their absolute values: `n u`
/// (Higham 2002, section 3.1), and for more than 64 terms `8 sqrt(n) u`, which fails once in 10^13 (Higham and Mary 2019,
/// theorem 2.4, with lambda = 8).
pub fn gamma(terms: usize) -> f64 {
    let n = terms as f64;
    n.min(8.0 * n.sqrt()) * FLOAT
}

/// A kernel, or several that belong together.
pub trait Kernel {
    /// What it is tried on.
    type Shape: Clone + Debug + 'static;

    /// Shapes that reach every edge: of tiles, blocks, tasks.
    fn edges() -> Vec<Self::Shape>;

    /// Small shapes.
    fn small() -> BoxedStrategy<Self::Shape>;

    /// What it computes, output by output; of the same inputs for the same shape. Outputs hold NaN before.
    fn run<E: Element>(c: &Compute, s: &Self::Shape) -> Vec<Vec<f64>>;

    /// The reference's outputs.
    fn want<E: Element>(s: &Self::Shape) -> Vec<Want>;
}

/// What a reference found for a shape and a type of element, once for all instruction sets: references in f64 take longer
/// than kernels.
pub struct Once<V>(Mutex<BTreeMap<String, Arc<OnceLock<V>>>>);

impl<V> Once<V> {
    pub const fn new() -> Once<V> {
        Once(Mutex::new(BTreeMap::new()))
    }

    /// The value of `key`, made if it is not there.
    pub fn of(&self, key: String, make: impl FnOnce() -> V) -> Arc<OnceLock<V>> {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = Arc::clone(values.entry(key).or_default());
        drop(values);
        value.get_or_init(make);
        value
    }
}

/// Tries a kernel on its edge shapes.
pub fn edges<K: Kernel, E: Element>(computes: &[Compute]) {
    let shapes = K::edges();
    assert!(!shapes.is_empty(), "no edge shapes");
    shapes.iter().for_each(|shape| check::<K, E>(computes, shape));
}

/// Tries a kernel on random small shapes, the same in each run.
pub fn small<K: Kernel, E: Element>(computes: &[Compute]) {
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let tried = TestRunner::new_with_rng(config, rng).run(&K::small(), |shape| {
        check::<K, E>(computes, &shape);
        Ok(())
    });
    tried.unwrap_or_else(|error| panic!("{error}"));
}

fn check<K: Kernel, E: Element>(computes: &[Compute], shape: &K::Shape) {
    let (first, others) = computes.split_first().expect("a compute");
    let got = K::run::<E>(first, shape);
    let want = K::want::<E>(shape);
    assert!(!want.is_empty(), "{shape:?}: nothing to compare");
    assert_eq!(got.len(), want.len(), "{shape:?}: outputs");
    for (got, want) in got.iter().zip(&want) {
        let Want { what, values, bounds } = want;
        assert_eq!(got.len(), values.len(), "{what} of {shape:?}");
        assert_eq!(got.len(), bounds.len(), "{what} of {shape:?}");
        for (i, ((got, want), bound)) in got.iter().zip(values).zip(bounds).enumerate() {
            // NaN is never within a bound.
            let near = (got - want).abs() <= *bound;
            assert!(
                near,
                "{what} of {shape:?}: element {i} is {got}, expected {want} within {bound:e}"
            );
        }
    }
    let bits = |outputs: Vec<Vec<f64>>| -> Vec<u64> {
        outputs.into_iter().flatten().map(f64::to_bits).collect()
    };
    let got = bits(got);
    for other in others {
        let threads = other.threads.count();
        let same = bits(K::run::<E>(other, shape)) == got;
        assert!(same, "{shape:?}: other bits on {threads} threads");
    }
}

/// Elements as numbers.
pub fn wide<E: Element>(values: &[E]) -> Vec<f64> {
    values.iter().map(|x| f64::from(x.to_f32())).collect()
}

/// Elements that are not a number, which a kernel must overwrite.
pub fn nan<E: Element>(len: usize) -> Vec<E> {
    vec![E::from_f32(f32::NAN); len]
}

/// Fails if a public function that computes (takes a `Compute` or an `Isa`) is called nowhere in the battery.
pub fn every_kernel_is_enrolled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |folder: &Path| -> Vec<(String, String)> {
        let entries = std::fs::read_dir(folder).expect("the crate's own folder");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let files = paths.filter(|path| path.extension().is_some_and(|e| e == "rs"));
        files
            .map(|path| {
                let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
                (name, std::fs::read_to_string(path).expect("a source file"))
            })
            .collect()
    };
    let library = std::fs::read_to_string(root.join("src/lib.rs")).expect("lib.rs");
    let battery: String = read(&root.join("tests/battery")).into_iter().map(|(_, t)| t).collect();
    let (mut kernels, mut missing) = (0, Vec::new());
    for (module, mut source) in read(&root.join("src")) {
        if !library.contains(&format!("pub mod {module};")) {
            continue;
        }
        // What it passes on of its own parts is its own.
        let parts = root.join("src").join(&module);
        for (part, inner) in if parts.is_dir() { read(&parts) } else { vec![] } {
            if source.contains(&format!("\npub use {part}::")) {
                source += &inner;
            }
        }
        for function in source.split("\npub fn ").skip(1) {
            let (head, _) = function.split_once("\n}").unwrap_or((function, ""));
            let signature = head.split_once('{').map_or(head, |(signature, _)| signature);
            if !signature.contains(": &Compute") && !signature.contains("isa: Isa") {
                continue;
            }
            let name = signature.split(['<', '(']).next().unwrap_or_default();
            kernels += 1;
            if !battery.contains(&format!("{module}::{name}")) {
                missing.push(format!("{module}::{name}"));
            }
        }
    }
    assert!(kernels > 30, "only {kernels} kernels were found");
    assert!(missing.is_empty(), "not in the battery: {missing:?}");
}
