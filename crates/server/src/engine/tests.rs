use super::*;

/// Gives each image's first byte back, and notes the batches.
struct Echo {
    batches: Arc<Mutex<Vec<usize>>>,
    time: Duration,
    broken: bool,
}

impl Run for Echo {
    fn run(&mut self, pixels: &[u8], count: usize) -> Result<Vec<f32>> {
        thread::sleep(self.time);
        self.batches.lock().unwrap().push(count);
        assert!(!self.broken, "it was not renewed");
        if pixels.contains(&66) {
            self.broken = true;
            panic!("a defect");
        }
        if pixels.contains(&77) {
            return Err(Error::invalid("image", "another", "77", ""));
        }
        Ok(pixels.chunks(2).flat_map(|image| [f32::from(image[0]), f32::from(image[1])]).collect())
    }

    fn batch(&self) -> usize {
        4
    }

    fn image_bytes(&self) -> usize {
        2
    }

    fn renew(&mut self) -> Result<()> {
        self.broken = false;
        Ok(())
    }
}

fn started(delay: u64, time: u64) -> (Engine, Line, Arc<Mutex<Vec<usize>>>) {
    let batches = Arc::new(Mutex::new(Vec::new()));
    let metrics = Arc::new(Metrics::default());
    let engine = Engine::start(16, Duration::from_millis(delay), metrics).unwrap();
    let time = Duration::from_millis(time);
    let line = engine.line(Box::new(Echo { batches: Arc::clone(&batches), time, broken: false }));
    (engine, line, batches)
}

fn add(engine: &Engine, line: &Line, values: &[u8]) -> oneshot::Receiver<Answer> {
    let pixels = values.iter().flat_map(|&v| [v, v]).collect();
    line.add(pixels, values.len(), engine.slot(values.len()).unwrap())
}

fn expected(values: &[u8]) -> Vec<f32> {
    values.iter().flat_map(|&v| [f32::from(v); 2]).collect()
}

#[test]
fn requests_share_batches_and_each_gets_its_own() {
    let (engine, line, batches) = started(50, 0);
    let requests: [&[u8]; 5] = [&[1], &[2, 3], &[4, 5, 6, 7, 8, 9], &[10], &[11]];
    let answers: Vec<_> = requests.iter().map(|r| add(&engine, &line, r)).collect();
    for (request, answer) in requests.iter().zip(answers) {
        assert_eq!(answer.blocking_recv().unwrap().unwrap(), expected(request));
    }
    let sizes = batches.lock().unwrap().clone();
    assert_eq!(sizes.iter().sum::<usize>(), 11);
    assert!(sizes.iter().all(|&n| n <= 4) && sizes.len() <= 4, "{sizes:?}");
    assert_eq!(engine.waiting(), 0);
}

#[test]
fn a_job_alone_waits_for_the_delay_and_a_full_batch_does_not() {
    let (engine, line, _) = started(300, 0);
    let start = Instant::now();
    add(&engine, &line, &[1, 2, 3, 4]).blocking_recv().unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_millis(250));
    let start = Instant::now();
    add(&engine, &line, &[1]).blocking_recv().unwrap().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn there_is_no_more_room_than_slots_and_it_comes_back() {
    let (engine, line, batches) = started(0, 20);
    let answers: Vec<_> = (0..4).map(|i| add(&engine, &line, &[i; 4])).collect();
    assert!(matches!(engine.slot(13), Err(NoSlot::Later(1))));
    assert_eq!(engine.slot(17).err(), Some(NoSlot::Never(16)));
    // Nobody waits for this one, so that nothing is computed for it.
    drop(add_late(&engine, &line));
    for answer in answers {
        answer.blocking_recv().unwrap().unwrap();
    }
    // A slot is free a moment after its answer, and that of the one for nobody when it is its turn.
    let until = Instant::now() + Duration::from_secs(10);
    while engine.slot(16).is_err() {
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(1));
    }
    engine.end();
    assert_eq!(batches.lock().unwrap().iter().sum::<usize>(), 16);
}

/// As soon as there is room.
fn add_late(engine: &Engine, line: &Line) -> oneshot::Receiver<Answer> {
    loop {
        match engine.slot(1) {
            Ok(slot) => return line.add(vec![9, 9], 1, slot),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[test]
fn a_batch_that_fails_or_panics_costs_its_own_requests() {
    let (engine, line, _) = started(0, 0);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let failed = add(&engine, &line, &[66]).blocking_recv().unwrap().unwrap_err();
    std::panic::set_hook(usual);
    assert_eq!(failed, "the net failed on this batch");
    let failed = add(&engine, &line, &[77]).blocking_recv().unwrap().unwrap_err();
    assert!(failed.contains("expected another"), "{failed}");
    let answer = add(&engine, &line, &[1]).blocking_recv().unwrap();
    assert_eq!(answer, Ok(expected(&[1])));
}

#[test]
fn what_waits_is_computed_when_a_line_or_the_engine_ends() {
    let (engine, line, batches) = started(10_000, 5);
    let other = engine.line(Box::new(Echo { batches, time: Duration::ZERO, broken: false }));
    let first = add(&engine, &line, &[1]);
    let second = add(&engine, &other, &[2]);
    drop(line);
    engine.end();
    assert_eq!(first.blocking_recv().unwrap(), Ok(expected(&[1])));
    assert_eq!(second.blocking_recv().unwrap(), Ok(expected(&[2])));
    // Nobody computes any more, and nobody is left waiting.
    assert!(add(&engine, &other, &[3]).blocking_recv().is_err());
}

#[test]
fn the_oldest_job_of_all_lines_is_first() {
    let (engine, line, batches) = started(0, 30);
    let other = engine.line(Box::new(Echo { batches, time: Duration::ZERO, broken: false }));
    let _busy = add(&engine, &line, &[0]);
    thread::sleep(Duration::from_millis(10));
    let old = add(&engine, &other, &[1]);
    let many: Vec<_> = (0..3).map(|_| add(&engine, &line, &[2; 4])).collect();
    let start = Instant::now();
    old.blocking_recv().unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_millis(55), "{:?}", start.elapsed());
    many.into_iter().for_each(|answer| drop(answer.blocking_recv().unwrap().unwrap()));
}
