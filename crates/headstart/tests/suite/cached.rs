//! Features through the cache: the same bits as without it, for every kind of net; one hash of an image everywhere.

use std::fs;

use headstart::cache::{CacheSettings, DISK, Whole};
use headstart::dataset::{DataOptions, Dataset, Limits, Subset, open};
use headstart::events::Event;
use headstart::{Compute, Control, DType, Device, Model, Result, inference};
use sha2::{Digest, Sha256};
use tempfile::tempdir;

use crate::support::{fill, png, tar_gz, tar_to, write};

/// Small nets of each kind: sums before and after batch norm, other names, two and three convolutions a block.
const NETS: [&str; 4] = ["resnet20", "resnet50v2", "torchvision-resnet18", "resnet50"];

fn device(dtype: DType) -> Device {
    Compute::new(2).unwrap().storing(dtype).into()
}

/// A cache that counts the images that are computed and those that are read.
struct Counted {
    settings: CacheSettings,
    computed: usize,
    reused: usize,
}

impl Counted {
    fn event(&mut self, event: Event) -> Result<Control> {
        if let Event::Cache { images, reused, .. } = event {
            self.computed += images - reused;
            self.reused += reused;
        }
        Ok(Control::Continue)
    }
}

#[test]
fn features_of_every_net_are_those_without_a_cache_whichever_way_they_come() {
    let data = Dataset::load("synthetic:2x6x40").unwrap();
    let seen: (&str, &Subset) = ("train", &data.train);
    for (net, dtype) in NETS.iter().flat_map(|n| [(n, DType::F32), (n, DType::Bf16)]) {
        let model = Model::builder(*net).weights("none").image_size(40).build(&data).unwrap();
        let (device, folder) = (device(dtype), tempdir().unwrap());
        let (none, root) = (CacheSettings::none(), Some(folder.path().to_path_buf()));
        let mut go_on = |_done: usize| Control::Continue;
        let mut of = |node| {
            let all = inference::values(&model, &data.train, node, &device, 3, &mut go_on);
            all.unwrap().unwrap()
        };
        let (pooled, logits) = (of(model.pooled()), of(model.logits()));
        let maps: Vec<Vec<f32>> = model.net.stages(&model.recipe).iter().map(|&n| of(n)).collect();
        let stages = Whole::new(&model, "x", &device, 4, &none)
            .stages(seen, &mut |_| Ok(Control::Continue))
            .unwrap()
            .unwrap();
        // Computed and added, and read again; of half of the images first.
        let settings = CacheSettings { memory: 0, folder: root, disk: DISK };
        let mut counted = Counted { settings, computed: 0, reused: 0 };
        let cache = counted.settings.clone();
        let half = data.train.select(&(0..data.train.len()).step_by(2).collect::<Vec<_>>());
        let mut whole = Whole::new(&model, "x", &device, 4, &cache);
        whole.pooled(("test", &half), &mut |e| counted.event(e)).unwrap().unwrap();
        for _ in 0..2 {
            let mut whole = Whole::new(&model, "x", &device, 5, &cache);
            let emit = &mut |e| counted.event(e);
            assert!(whole.pooled(seen, emit).unwrap().unwrap() == pooled, "{net} {dtype:?}");
            let values = whole.values(seen, model.logits(), emit).unwrap().unwrap();
            assert!(values == logits, "{net} {dtype:?}");
            assert!(whole.stages(seen, emit).unwrap().unwrap() == stages, "{net} {dtype:?}");
        }
        let count = data.train.len();
        assert_eq!((counted.computed, counted.reused), (count, half.len() + 5 * count));
        // What the last stage has is what the head reads; the others are means of their maps.
        assert!(stages.last() == Some(&pooled) && stages.len() == model.recipe.stages.len());
        for (means, map) in stages.iter().zip(&maps) {
            let (channels, each) = (means.len() / count, map.len() / count);
            let scale = map.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            for (k, mean) in means.iter().enumerate() {
                let values = map[k / channels * each..][..each].iter().skip(k % channels);
                let pixels = (each / channels) as f64;
                let sum: f64 = values.step_by(channels).map(|&x| f64::from(x)).sum();
                let error = (f64::from(*mean) - sum / pixels).abs();
                assert!(error <= 1e-5 * f64::from(scale), "{net} {dtype:?}: {error}");
            }
        }
    }
}

#[test]
fn an_image_is_known_by_its_bytes_wherever_it_is() {
    let dir = tempdir().unwrap();
    let threads = &Compute::new(2).unwrap().threads;
    fill(&dir.path().join("plain"), "a", 3);
    fill(&dir.path().join("plain"), "b", 2);
    // Other names, another class, another order, deeper folders; one image twice.
    for (to, red) in [("z/x/9.png", 0), ("z/1.png", 1), ("y/5.png", 2), ("y/6.png", 2)] {
        write(dir.path(), &format!("moved/{to}"), &png(4, 3, [red, 7, 9]));
    }
    let file = png(4, 3, [1, 7, 9]);
    let entries: [(&str, &[u8]); 2] = [("c/1.png", &file), ("d/2.png", &png(4, 3, [0, 7, 9]))];
    write(dir.path(), "packed.tar.gz", &tar_gz(&entries));
    write(dir.path(), "packed.tar", &tar_to(Vec::new(), &entries));
    let ids = |source: &str, decoded_bytes| {
        let limits = Limits { decoded_bytes, ..Limits::default() };
        let options = DataOptions { validation_split: 0.0, limits, ..DataOptions::default() };
        let data = open(dir.path().join(source), &options).unwrap();
        let hashes = data.train.image_hashes(threads).unwrap();
        assert_eq!(hashes, data.train.image_hashes(threads).unwrap());
        // As it is after its images were read.
        (0..data.train.len()).for_each(|i| drop(data.train.image(i).unwrap()));
        assert_eq!(hashes, data.train.image_hashes(threads).unwrap());
        hashes
    };
    let one: [u8; 32] = Sha256::digest(&file).into();
    for decoded in [0, 1 << 30] {
        let plain = ids("plain", decoded);
        assert_eq!((plain[1], plain[3..].to_vec()), (one, plain[..2].to_vec()));
        assert_eq!(ids("moved", decoded), [plain[2], plain[2], one, plain[0]]);
        for archive in ["packed.tar.gz", "packed.tar"] {
            assert_eq!(ids(archive, decoded), [one, plain[0]], "{archive}");
        }
    }
    // Without files, pixels and size count.
    let ids = |source: &str| Dataset::load(source).unwrap().train.image_hashes(threads).unwrap();
    assert_eq!(ids("synthetic:2x9x8"), ids("synthetic:2x9x8"));
    assert!(ids("synthetic:2x9x8")[0] != ids("synthetic:2x9x9")[0]);
}

#[test]
fn an_image_that_changes_after_its_hash_was_taken_is_an_error() {
    let dir = tempdir().unwrap();
    fill(dir.path(), "a", 2);
    fill(dir.path(), "b", 2);
    let limits = Limits { decoded_bytes: 0, ..Limits::default() };
    let data = open(dir.path(), &DataOptions { limits, ..DataOptions::default() }).unwrap();
    let before = data.train.image_hashes(&Compute::new(1).unwrap().threads).unwrap();
    let name = data.train.name(0).to_string();
    fs::write(dir.path().join(&name), png(4, 3, [99, 7, 9])).unwrap();
    let error = data.train.image(0).unwrap_err().to_string();
    assert!(error.contains("another") && error.contains(&name[2..]), "{error}");
    assert_eq!(data.train.image_hashes(&Compute::new(1).unwrap().threads).unwrap(), before);
    assert!(data.train.image(1).is_ok());
}
