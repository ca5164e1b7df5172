//! The batch loader: contents, order, errors, shutdown.

use headstart::augment::{Augment, List, Mixing};
use headstart::batches::{Batch, Loader, LoaderOptions, Target, epoch_order};
use headstart::dataset::{DataOptions, Limits, Subset, open};
use headstart::image::{Interpolation, Resizer, resize};
use tempfile::tempdir;

use crate::support::{fill, write};

fn synthetic(spec: &str) -> Subset {
    open(spec, &DataOptions { validation_split: 0.0, ..DataOptions::default() }).unwrap().train
}

fn target(height: usize, width: usize) -> Target {
    Target { height, width, ..Target::square(1) }
}

fn all(subset: &Subset, order: &[usize], options: LoaderOptions) -> Vec<Batch> {
    Loader::new(subset, order.to_vec(), options).unwrap().map(|batch| batch.unwrap()).collect()
}

#[test]
fn batches_hold_the_images_in_the_given_order_whatever_the_threads() {
    let subset = synthetic("synthetic:3x23x6");
    let order = epoch_order(5, 0, 23, true);
    for size in [(6, 6), (9, 4)] {
        let base = LoaderOptions::new(5, target(size.0, size.1));
        let batches = all(&subset, &order, base);
        assert_eq!(batches.iter().map(|b| b.count).collect::<Vec<_>>(), [5, 5, 5, 5, 3]);
        assert_eq!(batches.iter().flat_map(|b| b.indices.clone()).collect::<Vec<_>>(), order);
        for batch in &batches {
            let each = size.0 * size.1 * 3;
            assert_eq!((batch.images.len(), batch.labels.len()), (batch.count * each, batch.count));
            for (slot, &i) in batch.indices.iter().enumerate() {
                assert_eq!(batch.labels[slot] as usize, subset.label(i));
                let image = subset.image(i).unwrap();
                let image = resize(&image, size.1, size.0, Interpolation::Bilinear).unwrap();
                let floats: Vec<f32> = image.pixels.iter().map(|&v| f32::from(v)).collect();
                assert_eq!(batch.images.to_floats()[slot * each..][..each], floats);
            }
        }
        for (threads, prefetch) in [(2, 1), (3, 4), (8, 8)] {
            assert_eq!(all(&subset, &order, LoaderOptions { threads, prefetch, ..base }), batches);
        }
    }
}

#[test]
fn recycled_batches_change_nothing() {
    let subset = synthetic("synthetic:2x31x4");
    let order = epoch_order(1, 2, 31, true);
    let options = LoaderOptions { threads: 2, prefetch: 3, ..LoaderOptions::new(4, target(4, 4)) };
    let expected = all(&subset, &order, options);
    let mut loader = Loader::new(&subset, order, options).unwrap();
    assert_eq!(loader.len(), 8);
    for wanted in &expected {
        let batch = loader.next().unwrap().unwrap();
        assert_eq!(batch, *wanted);
        loader.recycle(batch);
    }
    assert!(loader.next().is_none() && loader.next().is_none());
}

#[test]
fn epoch_orders_are_permutations_fixed_by_seed_and_epoch() {
    let order = epoch_order(42, 3, 100, true);
    assert_eq!(order, epoch_order(42, 3, 100, true));
    assert_ne!(order, epoch_order(42, 4, 100, true));
    assert_ne!(order, epoch_order(43, 3, 100, true));
    let mut sorted = order;
    sorted.sort_unstable();
    assert_eq!(sorted, epoch_order(42, 3, 100, false));
    assert!(epoch_order(1, 0, 0, true).is_empty());
}

#[test]
fn augmented_batches_are_the_changed_images_whatever_the_threads() {
    let subset = synthetic("synthetic:3x23x6");
    let order = epoch_order(5, 1, 23, true);
    let List(list) = "resized-crop,flip,crop:2,rotate:9,jitter,randaugment,erase".parse().unwrap();
    let augment = Augment { list, seed: 9, epoch: 1, ..Augment::default() };
    for size in [(6, 6), (9, 4)] {
        let base = LoaderOptions::new(5, target(size.0, size.1));
        let plain = all(&subset, &order, base);
        let changed = |options, augment: &Augment| {
            let loader = Loader::augmented(&subset, order.clone(), options, augment.clone());
            loader.unwrap().map(|batch| batch.unwrap()).collect::<Vec<_>>()
        };
        let batches = changed(base, &augment);
        assert_ne!(batches, plain);
        assert_eq!(changed(base, &Augment::default()), plain);
        let each = size.0 * size.1 * 3;
        for (before, after) in plain.iter().zip(&batches) {
            assert_eq!((&before.labels, &before.indices), (&after.labels, &after.indices));
            for (slot, &i) in before.indices.iter().enumerate() {
                let part = slot * each..(slot + 1) * each;
                let (image, mut bytes) = (subset.image(i).unwrap(), vec![0; each]);
                let target = target(size.0, size.1);
                augment.apply(i, &image, target, &mut Resizer::new(), &mut bytes).unwrap();
                let floats: Vec<f32> = bytes.into_iter().map(f32::from).collect();
                assert_eq!(after.images.to_floats()[part], floats);
            }
        }
        let options = LoaderOptions { threads: 3, prefetch: 4, batch_size: 4, ..base };
        let images = |batches: &[Batch]| -> Vec<f32> {
            batches.iter().flat_map(|b| b.images.to_floats()).collect()
        };
        assert_eq!(images(&changed(options, &augment)), images(&batches));
        let next = Augment { epoch: 2, ..augment.clone() };
        assert_ne!(changed(base, &next), batches);
    }
}

#[test]
fn mixed_batches_follow_from_their_number_in_the_epoch() {
    let subset = synthetic("synthetic:3x23x6");
    let order = epoch_order(5, 1, 23, true);
    let mixing = Mixing { mixup: Some(0.4), cutmix: Some(1.0) };
    let augment = Augment { seed: 9, epoch: 1, mixing, ..Augment::default() };
    let base = LoaderOptions::new(4, target(6, 6));
    let mixed = |order: &[usize], threads, step| -> Vec<Batch> {
        let (options, augment) =
            (LoaderOptions { threads, ..base }, Augment { step, ..augment.clone() });
        Loader::augmented(&subset, order.to_vec(), options, augment)
            .unwrap()
            .map(|batch| batch.unwrap())
            .collect()
    };
    let (plain, all_mixed) = (all(&subset, &order, base), mixed(&order, 1, 0));
    for (plain, mixed) in plain.iter().zip(&all_mixed) {
        let mut expected = plain.clone();
        let second = mixed.mixed.as_ref().unwrap();
        assert_ne!(plain.images, mixed.images);
        assert_eq!(plain.labels, mixed.labels);
        assert_eq!(second.labels[0], *plain.labels.last().unwrap());
        let number = all_mixed.iter().position(|b| b == mixed).unwrap();
        augment.mix(number, 6, 6, &mut expected);
        assert_eq!(expected, *mixed);
    }
    assert_eq!(mixed(&order, 3, 0), all_mixed);
    // An interrupted epoch continues with the batches that are left.
    assert_eq!(mixed(&order[8..], 2, 2), all_mixed[2..]);
    assert_ne!(mixed(&order[8..], 2, 0), all_mixed[2..]);
}

#[test]
fn a_bad_image_is_an_error_at_its_place_and_ends_the_batches() {
    let dir = tempdir().unwrap();
    fill(dir.path(), "a", 6);
    fill(dir.path(), "b", 6);
    let limits = Limits { decoded_bytes: 0, ..Limits::default() };
    let options = DataOptions { validation_split: 0.0, limits, ..DataOptions::default() };
    let subset = open(dir.path(), &options).unwrap().train;
    write(dir.path(), "a/004.png", b"broken now");
    for threads in [1, 4] {
        let options = LoaderOptions { threads, prefetch: 4, ..LoaderOptions::new(2, target(3, 4)) };
        let mut loader = Loader::new(&subset, (0..12).collect(), options).unwrap();
        assert_eq!(loader.next().unwrap().unwrap().indices, [0, 1]);
        assert_eq!(loader.next().unwrap().unwrap().indices, [2, 3]);
        let error = loader.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("004.png"), "{error}");
        assert!(loader.next().is_none());
    }
}

#[test]
fn loaders_stop_when_dropped_and_refuse_nonsense() {
    let subset = synthetic("synthetic:2x64x4");
    let base = LoaderOptions::new(2, target(4, 4));
    for taken in [0, 1, 5] {
        let options = LoaderOptions { threads: 3, prefetch: 2, ..base };
        let mut loader = Loader::new(&subset, (0..64).collect(), options).unwrap();
        for _ in 0..taken {
            loader.next().unwrap().unwrap();
        }
        drop(loader);
    }
    assert!(all(&subset, &[], base).is_empty());
    let refused = |order: Vec<usize>, options| match Loader::new(&subset, order, options) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    };
    assert!(refused(vec![64], base).contains("below 64"));
    for options in [
        LoaderOptions { batch_size: 0, ..base },
        LoaderOptions { threads: 0, ..base },
        LoaderOptions { prefetch: 0, ..base },
        LoaderOptions { target: target(0, 4), ..base },
        LoaderOptions { target: target(4, 0), ..base },
    ] {
        assert!(refused(vec![0], options).contains("at least 1"));
    }
    let vast = LoaderOptions { target: target(usize::MAX, 2), ..base };
    assert!(refused(vec![0], vast).contains("100 million"));
}
