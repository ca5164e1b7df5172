//! Large JPEGs that are decoded reduced: the same pixels wherever a model sees them, and nothing else changes. That the
//! pixels are those of Pillow's `draft` is in `jpeg.rs`.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use headstart::augment::{Augment, List};
use headstart::batches::{Loader, LoaderOptions};
use headstart::cache::{CacheSettings, DISK, Whole};
use headstart::classify::{ClassifyOptions, classify, classify_one};
use headstart::config::{Precision, TrainConfig};
use headstart::dataset::{DataOptions, Dataset, Limits, Split, open};
use headstart::evaluate::evaluate;
use headstart::events;
use headstart::image::{
    Decode, Fit, Interpolation, Resizer, Rgb8, Target, Views, decode, decode_draft, jpeg, picture,
};
use headstart::run::{CacheFolder, DiskCache, Ended, Event, Job};
use headstart::{Control, Device, Error, Model, inference, weights};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use tempfile::tempdir;

use crate::support::{png, tar_gz, varied, write};

/// Width and height of a large photo.
const SIZE: (usize, usize) = (3072, 2048);

/// Smooth shapes below coarse and fine squares, of this many samples a pixel.
fn samples((width, height): (usize, usize), count: usize) -> Vec<u8> {
    let sample = |i: usize| {
        let (c, x, y) = (i % count, i / count % width, i / count / width);
        let smooth = x * (c + 1) / 13 % 80 + y / 9 % 70;
        (smooth + (x / 37 + y / 41) % 2 * 60 + (x / 5 + y / 6) % 2 * 40) as u8
    };
    (0..width * height * count).map(sample).collect()
}

fn photo(size: (usize, usize)) -> Vec<u8> {
    jpeg(&Rgb8::new(size.0, size.1, samples(size, 3)).unwrap(), 85).unwrap()
}

/// A large photo.
fn large() -> &'static [u8] {
    static LARGE: OnceLock<Vec<u8>> = OnceLock::new();
    LARGE.get_or_init(|| photo(SIZE))
}

fn reduced(side: usize) -> Target {
    Target { decode: Decode::Reduced, ..Target::square(side) }
}

/// Opens, with all pixels in memory or none.
fn opened(root: &Path, packed: bool) -> Dataset {
    let decoded_bytes = if packed { 1 << 30 } else { 0 };
    let limits = Limits { decoded_bytes, ..Limits::default() };
    let options = DataOptions { validation_split: 0.0, limits, ..DataOptions::default() };
    let data = open(root, &options).unwrap();
    assert_eq!(data.train.is_in_memory(), packed);
    data
}

/// Two classes: a large photo and small images.
fn photos(root: &Path) {
    write(root, "a/large.jpg", large());
    write(root, "a/small.png", &png(60, 40, [9, 99, 200]));
    write(root, "b/large.png", &png(900, 700, [200, 9, 99]));
    write(root, "b/small.jpg", &photo((511, 700)));
}

fn model(data: &Dataset) -> Model {
    varied(Model::builder("resnet20").weights("none").image_size(128).build(data).unwrap())
}

#[test]
fn a_model_sees_a_large_jpeg_the_same_way_everywhere() {
    let dir = tempdir().unwrap();
    photos(&dir.path().join("data"));
    write(dir.path(), "packed.tar.gz", &{
        let small = photo((511, 700));
        tar_gz(&[("a/large.jpg", large()), ("b/small.jpg", &small)])
    });
    let device = Device::cpu(1).unwrap();
    let new = model(&opened(&dir.path().join("data"), false));
    assert_eq!(new.card.decode, Decode::Reduced);
    let mut old = new.clone();
    old.card.decode = Decode::Full;
    let path = dir.path().join("data/a/large.jpg");
    let mut all = Vec::new();
    for (model, image) in [
        (&new, decode_draft("large.jpg", large(), 256).unwrap()),
        (&old, decode("large.jpg", large()).unwrap()),
    ] {
        assert_eq!(image.width, if all.is_empty() { SIZE.0 / 8 } else { SIZE.0 });
        let want = classify_one(model, image, &device).unwrap();
        for found in [model.predict(&path).unwrap(), model.predict_bytes(large()).unwrap()] {
            let mut found: Vec<_> = found.iter().map(|c| (c.index, c.probability)).collect();
            found.sort_by_key(|choice| choice.0);
            assert_eq!(found.iter().map(|choice| choice.1).collect::<Vec<f32>>(), want);
        }
        let options = ClassifyOptions { batch: 1, tta: Views::One, decoders: 2 };
        let mut watch = |_, answer: Result<&[f32], &Error>| {
            assert_eq!(answer.unwrap(), want);
            Ok::<_, Error>(Control::Continue)
        };
        classify(model, &[path.clone(), path.clone()], &device, options, &mut watch).unwrap();
        for source in ["data", "packed.tar.gz"] {
            for packed in [false, true] {
                let data = opened(&dir.path().join(source), packed);
                let parts = data.parts(Split::All).unwrap();
                let mut watch = |_: &str, _: usize, _: usize| Control::Continue;
                let found = evaluate(model, &data, &parts, &device, 1, &mut watch).unwrap();
                assert_eq!(found.unwrap().probabilities[..2], want);
            }
        }
        all.push(want);
    }
    assert_ne!(all[0], all[1]);
}

#[test]
fn cached_rows_of_reduced_jpegs_are_apart_and_all_others_are_shared() {
    let dir = tempdir().unwrap();
    let (root, cache) = (dir.path().join("data"), dir.path().join("cache"));
    photos(&root);
    let device = Device::cpu(1).unwrap();
    let settings = CacheSettings { memory: 0, folder: Some(cache), disk: DISK };
    let new = model(&opened(&root, false));
    let mut old = new.clone();
    old.card.decode = Decode::Full;
    let mut rows = Vec::new();
    for (model, packed, reused) in
        [(&old, false, 0), (&new, false, 3), (&new, true, 4), (&old, true, 4)]
    {
        let data = opened(&root, packed);
        let mut counts = (0, 0);
        let mut emit = |event| {
            if let events::Event::Cache { images, reused, .. } = event {
                counts = (images, reused);
            }
            Ok(Control::Continue)
        };
        let mut whole = Whole::new(model, "photos", &device, 3, &settings);
        let found = whole.pooled(("train", &data.train), &mut emit).unwrap().unwrap();
        assert_eq!(counts, (4, reused), "packed: {packed}");
        let (node, mut go_on) = (model.pooled(), |_| Control::Continue);
        let plain = inference::values(model, &data.train, node, &device, 3, &mut go_on);
        assert!(found == plain.unwrap().unwrap(), "packed: {packed}");
        rows.push(found);
    }
    let each = rows[0].len() / 4;
    assert!(rows[0] == rows[3] && rows[1] == rows[2]);
    assert!(rows[0][..each] != rows[1][..each] && rows[0][each..] == rows[1][each..]);
}

#[test]
fn what_is_no_large_jpeg_is_untouched() {
    let dir = tempdir().unwrap();
    let wide = photo((511, 2000));
    let shapes = Rgb8::new(1200, 1100, samples((1200, 1100), 3)).unwrap();
    let large_png = picture::png(&shapes).unwrap();
    let same = |target: Target, bytes: &[u8]| {
        assert_eq!(target.decoded("x", bytes).unwrap(), decode("x", bytes).unwrap(), "{target:?}");
    };
    same(reduced(32), &wide);
    same(reduced(32), &large_png);
    // Half of its size would be less than twice the net's, or nothing is averaged.
    same(reduced(520), large());
    same(Target { fit: Fit::Crop { share: 0.4 }, ..reduced(256) }, large());
    same(Target { interpolation: Interpolation::Nearest, ..reduced(32) }, large());
    same(Target::square(32), large());
    write(dir.path(), "a/wide.jpg", &wide);
    write(dir.path(), "b/large.png", &large_png);
    for packed in [false, true] {
        let data = opened(dir.path(), packed).train;
        for i in 0..2 {
            assert_eq!(data.image_for(i, reduced(32)).unwrap(), data.image(i).unwrap());
        }
    }
}

#[test]
fn every_pixel_stays_in_memory_for_whoever_wants_it() {
    let dir = tempdir().unwrap();
    photos(dir.path());
    let data = opened(dir.path(), true).train;
    let at = (0..4).find(|&i| data.name(i) == "a/large.jpg").unwrap();
    let (whole, eighth) = (decode("x", large()).unwrap(), decode_draft("x", large(), 256).unwrap());
    assert_eq!(data.image_for(at, reduced(64)).unwrap(), eighth);
    assert_eq!(data.image(at).unwrap(), whole);
    let half = data.image_for(at, reduced(500)).unwrap();
    assert_eq!(half, decode_draft("x", large(), 1000).unwrap());
    // The first size that was asked for is kept.
    fs::remove_file(dir.path().join("a/large.jpg")).unwrap();
    let again = data.image_for(at, reduced(100)).unwrap();
    assert!(again == eighth && matches!(again.pixels, Cow::Borrowed(_)));
    assert_eq!(data.image_for(at, Target::square(64)).unwrap(), whole);
    let error = data.image_for(at, reduced(500)).unwrap_err().to_string();
    assert!(error.contains("large.jpg"), "{error}");
}

#[test]
fn what_is_opened_for_a_net_is_in_memory_as_it_has_it_decoded() {
    let dir = tempdir().unwrap();
    photos(&dir.path().join("photos"));
    let archive = tar_gz(&[("a/large.jpg", large()), ("b/small.png", &png(60, 40, [9, 99, 200]))]);
    write(dir.path(), "photos.tar.gz", &archive);
    let (whole, half) = (decode("x", large()).unwrap(), decode_draft("x", large(), 1000).unwrap());
    let eighth = decode_draft("x", large(), 256).unwrap();
    let target = reduced(500);
    for source in ["photos", "photos.tar.gz"] {
        let root = dir.path().join(source);
        let all = opened(&root, true).train;
        // All pixels would be more than this.
        let limits =
            Limits { decoded_bytes: half.pixels.len() as u64 + (2 << 20), ..Limits::default() };
        let options = DataOptions {
            validation_split: 0.0,
            least_side: target.least_side(),
            limits,
            ..DataOptions::default()
        };
        let data = open(&root, &options).unwrap().train;
        assert_eq!(data.is_in_memory(), source != "photos");
        let options = DataOptions { limits: Limits::default(), ..options };
        let data = open(&root, &options).unwrap().train;
        let at = (0..data.len()).find(|&i| data.name(i) == "a/large.jpg").unwrap();
        assert_eq!(data.size(at), (SIZE.1, SIZE.0));
        let seen = data.image_for(at, target).unwrap();
        assert!(seen == half && matches!(seen.pixels, Cow::Borrowed(_)));
        for _ in 0..2 {
            assert_eq!(data.image_for(at, reduced(64)).unwrap(), eighth);
            assert_eq!(data.image(at).unwrap(), whole);
        }
        let kept = data.image_for(at, reduced(64)).unwrap();
        assert!(matches!(kept.pixels, Cow::Borrowed(_)));
        for i in (0..data.len()).filter(|&i| i != at) {
            assert_eq!(data.image(i).unwrap(), all.image(i).unwrap());
        }
        // Whoever opens it sees the same images.
        let device = Device::cpu(1).unwrap();
        let threads = &device.compute().threads;
        assert_eq!(data.image_hashes(threads).unwrap(), all.image_hashes(threads).unwrap());
        assert_eq!(data.fingerprint(), all.fingerprint());
    }
}

/// A JPEG of these samples, as other programs write them.
fn coded(colours: ColorType, count: usize, progressive: bool) -> Vec<u8> {
    let (size, mut bytes) = ((1030, 1100), Vec::new());
    let mut encoder = Encoder::new(&mut bytes, 85);
    encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
    encoder.set_progressive(progressive);
    encoder.encode(&samples(size, count), size.0 as u16, size.1 as u16, colours).unwrap();
    bytes
}

/// The same file with an EXIF orientation.
fn turned(bytes: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"\xff\xe1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    [&bytes[..2], &exif, &bytes[2..]].concat()
}

#[test]
fn grey_cmyk_progressive_and_turned_jpegs_are_reduced_alike() {
    for (colours, count, progressive) in [
        (ColorType::Luma, 1, false),
        (ColorType::Rgb, 3, true),
        (ColorType::Cmyk, 4, false),
        (ColorType::CmykAsYcck, 4, true),
    ] {
        let bytes = coded(colours, count, progressive);
        let image = reduced(200).decoded("x.jpg", &bytes).unwrap();
        assert_eq!((image.width, image.height), (515, 550), "{colours:?}");
        assert_eq!(image, decode_draft("x.jpg", &bytes, 400).unwrap());
        // About the means of four pixels; of CMYK three colours have half the samples.
        let whole = decode("x.jpg", &bytes).unwrap();
        let mut far = 0.0;
        for (i, &value) in image.pixels.iter().enumerate() {
            let (c, x, y) = (i % 3, i / 3 % 515, i / 3 / 515);
            let of = |x: usize, y: usize| f64::from(whole.pixels[(y * 1030 + x) * 3 + c]);
            let (x, y) = (2 * x, 2 * y);
            let mean = (of(x, y) + of(x + 1, y) + of(x, y + 1) + of(x + 1, y + 1)) / 4.0;
            far += (mean - f64::from(value)).abs() / image.pixels.len() as f64;
        }
        assert!(far <= 6.0, "{colours:?}: {far}");
        let turned = reduced(200).decoded("x.jpg", &turned(&bytes, 6)).unwrap();
        assert_eq!((turned.width, turned.height), (550, 515));
        let pixel = |image: &Rgb8<'_>, x: usize, y: usize| {
            image.pixels[(y * image.width + x) * 3..][..3].to_vec()
        };
        for (x, y) in [(0, 0), (549, 514), (17, 400), (333, 5)] {
            assert_eq!(pixel(&turned, x, y), pixel(&image, y, 549 - x), "{colours:?}");
        }
    }
}

#[test]
fn a_damaged_jpeg_is_the_same_error_either_way() {
    let good = photo((1024, 1024));
    let frame = good.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    let mut precise = good.clone();
    precise[frame + 4] = 12;
    for bytes in [&good[..good.len() / 2], &good[..frame + 6], &precise] {
        let error = |target: Target| target.decoded("x.jpg", bytes).unwrap_err().to_string();
        assert_eq!(error(reduced(64)), error(Target::square(64)));
    }
}

#[test]
fn random_crops_are_taken_from_enough_pixels() {
    let dir = tempdir().unwrap();
    photos(dir.path());
    let target = reduced(128);
    let List(list) = "resized-crop,flip".parse().unwrap();
    let augment = Augment { list, seed: 3, ..Augment::default() };
    for packed in [false, true] {
        let data = opened(dir.path(), packed).train;
        let at = (0..4).find(|&i| data.name(i) == "a/large.jpg").unwrap();
        let options = LoaderOptions::new(1, target);
        let of = |augment: &Augment| {
            let loader = Loader::augmented(&data, vec![at], options, augment.clone());
            loader.unwrap().next().unwrap().unwrap().images.to_bytes()
        };
        let mut want = vec![0; 128 * 128 * 3];
        // 8% of the area, 4/3 as wide as high: 128 pixels of 523.
        let half = decode_draft("x", large(), 523).unwrap();
        assert_eq!(half.width, SIZE.0 / 2);
        augment.apply(at, &half, target, &mut Resizer::new(), &mut want).unwrap();
        assert!(of(&augment) == want);
        let eighth = decode_draft("x", large(), 256).unwrap();
        assert!(of(&Augment::default()) == target.enter(&mut Resizer::new(), &eighth).unwrap());
    }
}

#[test]
fn a_run_begun_before_there_was_a_choice_goes_on_in_full() {
    let dir = tempdir().unwrap();
    for (class, size) in [("a", (600, 520)), ("b", (520, 610))] {
        for i in 0..3 {
            let name = format!("data/{class}/{i}.jpg");
            write(dir.path(), &name, &photo((size.0 + 9 * i, size.1)));
        }
    }
    let config = TrainConfig {
        data: dir.path().join("data").display().to_string(),
        model: "resnet20".into(),
        weights: "none".into(),
        image_size: Some(16),
        epochs: 3,
        batch_size: 2,
        validation_split: 0.0,
        decode: Decode::Full,
        precision: Precision::F32,
        threads: 1,
        ..TrainConfig::default()
    };
    let cache = || DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
    let job = |config: &TrainConfig, run: &str| {
        Job::new(config.clone()).out(dir.path().join(run), true).cache(cache()).pictures(false)
    };
    let finish = |job: Job| match job.run(&mut |_| Control::Continue).unwrap() {
        Ended::Finished(finished) => finished.model,
        Ended::Stopped { kept, .. } => panic!("stopped: {kept}"),
    };
    let want = finish(job(&config, "whole"));
    let new = finish(job(&TrainConfig { decode: Decode::Reduced, ..config.clone() }, "new"));
    assert_eq!((want.card.decode, new.card.decode), (Decode::Full, Decode::Reduced));
    assert_ne!(want.parameters, new.parameters);
    let mut late = |event: &Event<'_>| match event {
        Event::Training(events::Event::Step { epoch: 2, step: 2, .. }) => Control::Stop,
        _ => Control::Continue,
    };
    assert!(matches!(job(&config, "old").run(&mut late).unwrap(), Ended::Stopped { .. }));
    // As an earlier version wrote it.
    let (last, settings) =
        (dir.path().join("old/weights/last.safetensors"), dir.path().join("old/config.toml"));
    let without = |text: String| {
        assert!(text.contains("decode = \"full\"\n"), "{text}");
        text.replace("decode = \"full\"\n", "")
    };
    fs::write(&settings, without(fs::read_to_string(&settings).unwrap())).unwrap();
    let mut file = weights::read(&last).unwrap();
    let optimizer = std::mem::take(&mut file.optimizer);
    let mut model = Model::from_file(file).unwrap();
    let progress = model.card.progress.take();
    let trained = model.card.trained.as_mut().unwrap();
    trained.settings = without(trained.settings.clone());
    model.save_with(&last, progress, &optimizer).unwrap();
    let resumed = Job::resume(dir.path().join("old")).unwrap().cache(cache()).pictures(false);
    let found = finish(resumed);
    assert_eq!((found.card.decode, found.parameters), (Decode::Full, want.parameters));
}
