//! Which process computes which replica of a batch changes no bit: threads stand for processes.

use std::sync::{Arc, Barrier, Mutex};

use headstart::cache::CacheSettings;
use headstart::collective::{Alone, Collective};
use headstart::parameters::Parameters;
use headstart::{Control, Dataset, Device, Model, Phase, Result, Settings, Trainer};

/// What threads leave for each other.
#[derive(Debug)]
struct Table {
    /// For each rank, the vectors of its replicas, or its bytes.
    vectors: Mutex<Vec<Vec<Vec<f32>>>>,
    bytes: Mutex<Vec<Vec<u8>>>,
    barrier: Barrier,
}

/// One of several threads that train together.
#[derive(Debug)]
struct Together {
    rank: usize,
    size: usize,
    table: Arc<Table>,
}

impl Collective for Together {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce(&mut self, own: &[&[f32]], sum: &mut [f32]) -> Result<()> {
        self.table.vectors.lock().unwrap()[self.rank] = own.iter().map(|v| v.to_vec()).collect();
        self.barrier()?;
        let all = self.table.vectors.lock().unwrap().concat();
        let all: Vec<&[f32]> = all.iter().map(|v| &v[..]).collect();
        Alone.all_reduce(&all, sum)?;
        self.barrier()
    }

    fn gather(&mut self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.table.bytes.lock().unwrap()[self.rank] = own.to_vec();
        self.barrier()?;
        let all = self.table.bytes.lock().unwrap().clone();
        self.barrier()?;
        Ok(all)
    }

    fn barrier(&mut self) -> Result<()> {
        self.table.barrier.wait();
        Ok(())
    }
}

/// Weights and losses after a head's and a whole net's phase.
fn train(collective: Box<dyn Collective>, settings: &Settings) -> (Parameters, Vec<f64>) {
    let data = Dataset::load("synthetic:2x22x32").unwrap();
    let mut model = Model::builder("resnet20").weights("cifar10").build(&data).unwrap();
    let from = model.net.freeze_point("conv4_block3_1_conv").unwrap();
    let device = Device::cpu(1).unwrap();
    let mut trainer = Trainer::new(&mut model, &data, device, settings.clone()).unwrap();
    trainer.join(collective);
    for phase in [Phase::head(1, 1e-2), Phase::fine_tune(from, 1, 1e-3)] {
        trainer.fit(&phase, &mut |_| Control::Continue).unwrap();
    }
    let epochs = trainer.history.epochs.iter();
    let losses =
        epochs.flat_map(|e| [e.loss, e.val_loss.unwrap(), e.val_macro_f1.unwrap()]).collect();
    (model.parameters, losses)
}

fn threads(size: usize, settings: &dyn Fn(usize) -> Settings) -> (Parameters, Vec<f64>) {
    let table = Arc::new(Table {
        vectors: Mutex::new(vec![Vec::new(); size]),
        bytes: Mutex::new(vec![Vec::new(); size]),
        barrier: Barrier::new(size),
    });
    let ranks: Vec<_> = (0..size)
        .map(|rank| {
            let (table, settings) = (Arc::clone(&table), settings(rank));
            let together = Together { rank, size, table };
            std::thread::spawn(move || train(Box::new(together), &settings))
        })
        .collect();
    let results: Vec<_> = ranks.into_iter().map(|r| r.join().unwrap()).collect();
    assert!(results.iter().all(|r| *r == results[0]), "processes have different weights");
    results.into_iter().next().unwrap()
}

#[test]
fn one_two_and_four_processes_have_the_same_bits() {
    // Of 19 images: the last batch has 3, which leaves one replica without any.
    for (batch_size, accumulate, ema) in [(8, 1, Some(0.9)), (8, 2, None), (16, 1, None)] {
        let mut usual = Settings::default();
        // Without cached features in the last case.
        if batch_size == 16 {
            usual.cache = CacheSettings::none();
        }
        let settings = Settings { batch_size, replicas: 4, accumulate, ema, ..usual };
        let one = train(Box::new(Alone), &settings);
        for size in [2, 4] {
            let several = threads(size, &|_| settings.clone());
            assert!(
                several == one,
                "{size} processes, batches of {batch_size}, {accumulate} an update"
            );
        }
        // Another number of replicas is another net: batch norm sees other images.
        let other = Settings { replicas: 2, ..settings };
        assert!(train(Box::new(Alone), &other) != one);
    }
}

#[test]
fn processes_share_what_any_of_them_has_not_cached() {
    let folders = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let settings = |folder: Option<usize>, memory| Settings {
        replicas: 2,
        cache: CacheSettings {
            memory,
            folder: folder.map(|i| folders[i].path().to_path_buf()),
            disk: 1 << 30,
        },
        ..Settings::default()
    };
    let none = train(Box::new(Alone), &settings(None, 0));
    // The first has all on disk, the second nothing; then the second has it too.
    assert!(train(Box::new(Alone), &settings(Some(0), 1 << 30)) == none);
    assert!(threads(2, &|rank| settings(Some(rank), 1 << 30)) == none);
    let rows = |folder: &tempfile::TempDir| -> u64 {
        let entries = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path());
        entries.filter_map(|e| Some(std::fs::metadata(e.join("rows")).ok()?.len())).sum()
    };
    assert_eq!(rows(&folders[0]), rows(&folders[1]));
    assert!(rows(&folders[0]) > 0);
    // One of them has no disk.
    let of = |rank: usize| settings(Some(rank).filter(|&rank| rank < 2), 1 << 30);
    assert!(threads(3, &of) == none);
    // Read batch by batch, by two that share a folder.
    assert!(threads(2, &|_| settings(Some(1), 0)) == none);
}

#[test]
fn replicas_are_at_most_the_images_of_a_batch() {
    let data = Dataset::load("synthetic:2x22x32").unwrap();
    let mut model = Model::builder("resnet20").weights("cifar10").build(&data).unwrap();
    for replicas in [0, 9] {
        let settings = Settings { batch_size: 8, replicas, ..Settings::default() };
        let device = Device::cpu(1).unwrap();
        assert!(Trainer::new(&mut model, &data, device, settings).is_err());
    }
}
