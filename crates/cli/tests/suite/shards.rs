//! Work that is cut into parts for many jobs: each part goes on where it stopped, and all together are the whole.

use std::fs;

use crate::support::{Done, Place, trained};

/// A model and images of which one cannot be read.
fn place() -> Place {
    let place = trained(6, "");
    for (i, colour) in
        [[200, 30, 30], [30, 200, 30], [30, 30, 200], [90, 90, 90]].iter().enumerate()
    {
        place.image(&format!("new/{i}.png"), 20, *colour, 3);
        place.image(&format!("new/more/{i}.png"), 16, *colour, 9);
    }
    fs::write(place.path("new/4.png"), "no image").unwrap();
    place
}

#[test]
fn parts_of_predictions_are_the_whole() {
    let place = place();
    let whole = |out: &str| place.run(&format!("predict run new --output {out} --top-k 2"));
    let error = ["1 that cannot be read"];
    whole("whole.csv").fails(1, &error);
    let part =
        |k: usize| place.run(&format!("predict run new --output parts --top-k 2 --shard {k}/4"));
    let merge = |out: &str| place.run(&format!("merge parts --out {out}"));
    merge("early.csv").fails(1, &["parts", "No such file"]);
    part(2).ok();
    merge("early.csv").fails(1, &["without 1, 3-4"]);
    for k in [4, 1] {
        part(k).ok();
    }
    let done = part(3).ok();
    assert!(done.out.contains("part-0003-of-0004.jsonl: "), "{}", done.out);
    // A part that is cut off goes on, to the same bytes.
    let file = place.path("parts/part-0003-of-0004.jsonl");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 25]).unwrap();
    merge("early.csv").fails(1, &["part 3 with 1 of 2 rows", "goes on where it stopped"]);
    let done = part(3).ok();
    assert!(done.err.contains("goes on after 1 of 2 images"), "{}", done.err);
    assert_eq!(fs::read(&file).unwrap(), bytes);
    assert!(part(3).ok().err.contains("part 3 of 4 is complete"));
    for ending in ["csv", "json", "jsonl", "parquet"] {
        let (one, joined) = (format!("whole.{ending}"), format!("joined.{ending}"));
        whole(&one).fails(1, &error);
        merge(&joined).fails(1, &["1 of 9 that cannot be read"]);
        assert!(
            fs::read(place.path(&one)).unwrap() == fs::read(place.path(&joined)).unwrap(),
            "{ending}"
        );
    }
    // Other settings are other work.
    let other = place.run("predict run new --output parts --top-k 3 --shard 3/4");
    other.fails(1, &["same images, model and settings", "remove it"]);
    assert_eq!(fs::read(&file).unwrap(), bytes);
    place.run("predict run new --shard 1/2").fails(2, &["--output"]);
    merge("joined.txt").fails(2, &[".parquet"]);
}

#[test]
fn parts_of_features_are_the_whole() {
    let place = place();
    for ending in ["npy", "csv", "safetensors"] {
        place.run(&format!("features run --data data --out whole.{ending}")).ok();
        for k in 1..=3 {
            place.run(&format!("features run --data data --out vectors --shard {k}/3")).ok();
        }
        let done = place.run(&format!("merge vectors --out joined.{ending}")).ok();
        assert!(done.out.contains("of 18 images, 64 numbers each, of 3 parts"), "{}", done.out);
        let read = |name: &str| fs::read(place.path(&format!("{name}.{ending}"))).unwrap();
        assert!(read("whole") == read("joined"), "{ending}");
    }
}

#[test]
fn parts_of_a_check_find_what_the_whole_does() {
    let place = place();
    // Duplicates in different parts.
    fs::copy(place.path("data/red/000.png"), place.path("data/blue/099.png")).unwrap();
    place.image("data/green/tiny.png", 8, [30, 200, 30], 1);
    fs::write(
        place.path("data/green/torn.png"),
        &fs::read(place.path("data/green/001.png")).unwrap()[..90],
    )
    .unwrap();
    let whole = place.run("data check data --json").ok();
    for k in [3, 1, 2] {
        place.run(&format!("data check data --out checked --shard {k}/3")).ok();
    }
    let joined = place.run("merge checked --json --out findings.html").ok();
    assert_eq!(whole.json(), joined.json());
    assert_eq!(whole.json()["conflicts"], 1);
    assert!(fs::read_to_string(place.path("findings.html")).unwrap().contains("099.png"));
    assert_eq!(place.run("data check data").ok().out, place.run("merge checked").ok().out);
    fs::remove_file(place.path("data/red/002.png")).unwrap();
    place.run("merge checked").fails(1, &["the images that the parts are of"]);
}

#[test]
fn schedulers_say_which_part_it_is() {
    let place = place();
    let auto = |flag: &str, variables: &[(&str, &str)]| -> Done {
        let mut command = place.command(&format!("predict run new --output parts --shard {flag}"));
        for name in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "AWS_BATCH_JOB_ARRAY_INDEX"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied()).output().unwrap().into()
    };
    let slurm = [
        ("SLURM_ARRAY_TASK_ID", "3"),
        ("SLURM_ARRAY_TASK_MIN", "2"),
        ("SLURM_ARRAY_TASK_COUNT", "2"),
    ];
    auto("auto", &slurm).ok();
    auto("auto/2", &[("JOB_COMPLETION_INDEX", "0")]).ok();
    for part in [1, 2] {
        assert!(place.path(&format!("parts/part-000{part}-of-0002.jsonl")).exists());
    }
    auto("auto", &[("JOB_COMPLETION_INDEX", "0")]).fails(2, &["shard", "auto/16"]);
    auto("auto", &[]).fails(2, &["JOB_COMPLETION_INDEX"]);
    auto("5/4", &[]).fails(2, &["K from 1 to N", "5/4"]);
}
