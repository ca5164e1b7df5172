//! Tables as people have them: columns by other names, one or two rows, cells of any length, endings in capitals.

use std::fs;

use crate::support::{Done, Place};

/// Images 0 to 3 of red and blue.
fn place() -> Place {
    let place = Place::new();
    for (class, colour) in [("red", [200, 30, 30]), ("blue", [30, 30, 200])] {
        for i in 0..4 {
            place.image(&format!("img/{class}/{i}.png"), 16, colour, i);
        }
    }
    place
}

fn write(place: &Place, name: &str, header: &str, rows: &[&str]) {
    let all = [&[header][..], rows].concat().join("\n");
    fs::write(place.path(name), all + "\n").unwrap();
}

fn counts(done: &Done) -> Vec<(String, u64)> {
    let json = done.json();
    let parts = json["parts"].as_array().unwrap().iter();
    parts
        .map(|p| (p["name"].as_str().unwrap().to_string(), p["images"].as_u64().unwrap()))
        .collect()
}

#[test]
fn flags_say_how_images_are_split() {
    let place = place();
    for (column, parts) in [
        ("is_train", [("train", 2), ("test", 2)]),
        ("Train", [("train", 2), ("test", 2)]),
        ("is_training", [("train", 2), ("test", 2)]),
        ("is_valid", [("train", 2), ("validation", 2)]),
    ] {
        let own = if column == "is_valid" { ["0", "1"] } else { ["True", "False"] };
        let row = |class: &str, i: usize| format!("img/{class}/{i}.png,{class},{}", own[i % 2]);
        let rows = [row("red", 0), row("blue", 0), row("red", 1), row("blue", 1)];
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        write(&place, "t.csv", &format!("path,label,{column}"), &rows);
        let want: Vec<(String, u64)> = parts.map(|(name, n)| (name.to_string(), n)).into();
        assert_eq!(counts(&place.run("data check t.csv --json").ok()), want, "{column}");
    }
}

#[test]
fn a_second_column_that_may_be_meant_is_named() {
    let place = place();
    let rows = ["img/red/0.png,red,1,a", "img/blue/0.png,blue,2,b"];
    write(&place, "t.csv", "filename,label,image,category", &rows);
    let text = place.run("data check t.csv").ok().out;
    for part in ["as filename is: image", "as label is: category"] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn one_row_or_two_are_spoken_of_as_such() {
    let place = place();
    write(&place, "one.csv", "path,label", &["img/red/0.png,red"]);
    let train = "train --model resnet20 --weights none --image-size 16 --epochs 1";
    for line in ["data check one.csv", &format!("{train} --data one.csv")] {
        let done = place.run(line).fails(1, &["different labels of training images", "one, red"]);
        assert!(!done.err.contains("folder"), "{}", done.err);
    }
    write(&place, "two.csv", "path,label", &["img/red/0.png,red", "img/blue/0.png,blue"]);
    let both = "--validation-split 0.1 --test-split 0.2";
    let done = place.run(&format!("{train} --data two.csv {both} --out few")).ok();
    assert!(done.err.contains("warning: no image is left for validation"), "{}", done.err);
    place
        .run(&format!("{train} --data one.csv --test-split 0.2 --out run"))
        .fails(1, &["at least two classes"]);
    let done = place.run(&format!("{train} --data two.csv --out run")).ok();
    assert!(done.err.contains("of these classes are held out: "), "{}", done.err);
    assert!(done.out.contains("validation: 1 image\n"), "{}", done.out);
}

#[test]
fn a_cell_of_a_megabyte_is_not_repeated() {
    let place = place();
    let cell = "x".repeat(1 << 20);
    let good = ["img/red/0.png,red,", "img/blue/0.png,blue,", "img/red/1.png,red,"];
    for (header, row) in [
        ("path,label,split", format!("img/blue/1.png,blue,{cell}")),
        ("path,label,split", format!("img/blue/1.png,{cell},test")),
        ("path,label,split", format!("{cell},,test")),
        ("path,label,is_train", format!("img/blue/1.png,blue,{cell}")),
        ("path,label,set", format!("img/blue/1.png,blue,{cell}")),
        ("path,label,set", format!("{cell},blue,")),
    ] {
        write(&place, "t.csv", header, &[&good[..], &[row.as_str()][..]].concat());
        let done = place.run("data check t.csv");
        assert!(done.out.len() + done.err.len() < 4000, "{header}: {} {}", done.out, done.err);
        assert!(done.out.contains("xxx") || done.err.contains("xxx") || header.contains("set"));
    }
}

#[test]
fn endings_in_capitals_are_known() {
    let place = place();
    let rows = ["img/red/0.png,red", "img/blue/0.png,blue"];
    for (name, separator) in [("a.CSV", ","), ("a.TSV", "\t"), ("a.Tab", "\t"), ("a.TXT", ";")] {
        let rows = rows.map(|row| row.replace(',', separator));
        write(&place, name, &["path", "label"].join(separator), &[&rows[0], &rows[1]]);
        assert_eq!(place.run(&format!("data check {name} --json")).ok().json()["images"], 2);
    }
    let net = "resnet20 --weights cifar10";
    for name in ["p.CSV", "p.Jsonl", "p.PARQUET", "p.JSON"] {
        place.run(&format!("predict {net} img --output {name}")).ok();
    }
    for name in ["f.CSV", "f.NPY", "f.SafeTensors"] {
        place.run(&format!("features {net} --image-size 16 --data img --out {name}")).ok();
    }
}

#[test]
fn a_split_of_which_nothing_can_be_read_is_named() {
    let place = place();
    let rows = ["img/red/0.png,red,", "img/blue/0.png,blue,", "gone.png,red,val"];
    write(&place, "t.csv", "path,label,split", &rows);
    let line = "train --model resnet20 --weights none --image-size 16 --out run --data";
    place
        .run(&format!("{line} t.csv"))
        .fails(1, &["t.csv", "validation image that can be read", "gone.png"]);
    // Looking at it is no error.
    let text = place.run("data check t.csv").ok().out;
    assert!(text.contains("validation images: only files that cannot be used, 1 in all"), "{text}");
    write(&place, "u.csv", "path,label,split", &[rows[0], rows[1], "img/red/1.png,pink,test"]);
    place.run(&format!("{line} u.csv")).fails(1, &["for test images", "pink", "the label"]);
    for class in ["red", "blue"] {
        place.image(&format!("d/train/{class}/0.png"), 16, [1, 2, 3], 5);
    }
    fs::create_dir_all(place.path("d/test/red")).unwrap();
    fs::write(place.path("d/test/red/bad.png"), "no image").unwrap();
    place
        .run(&format!("{line} d"))
        .fails(1, &["test image that can be read", "d/test/red/bad.png: no image of a known kind"]);
}
