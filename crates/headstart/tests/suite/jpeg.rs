//! JPEG against Pillow's bytes: files of every sampling, quality, coding, colour and damage (`golden/jpeg/generate.py`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use headstart::image::{decode, decode_draft};
use sha2::{Digest, Sha256};

use crate::support::{golden_files, shared};

/// The files by name, without its ending, and the lines of `pixels.txt`: name, then width, height and hash, or `refused`.
fn golden() -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let (mut files, lines) = golden_files("jpeg", ".jpg");
    files.remove("drafts.txt");
    (files, lines)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file(name: &str) -> Vec<u8> {
    golden().0.remove(name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn every_kind_decodes_to_pillows_bytes() {
    let (files, lines) = golden();
    assert_eq!(files.len(), lines.len());
    let (mut same, mut refused) = (0, 0);
    for line in &lines {
        let (name, want) = line.split_once(' ').unwrap();
        let got = match decode(name, &files[name]) {
            Ok(image) => format!("{} {} {}", image.width, image.height, hex(&image.pixels)),
            Err(error) => {
                assert!(want == "refused", "{name}: {error}");
                refused += 1;
                continue;
            }
        };
        assert_eq!(got, want, "{name}");
        same += 1;
    }
    println!("{same} the same, {refused} refused by both");
    assert!(same >= 331 && refused >= 35, "{same} {refused}");
}

#[test]
fn smaller_ones_are_pillows_drafts() {
    let (files, _) = golden_files("jpeg", ".jpg");
    let mut scales = [0; 9];
    for line in str::from_utf8(&files["drafts.txt"]).unwrap().lines() {
        let parts: Vec<&str> = line.splitn(3, ' ').collect();
        let [name, scale, want] = parts[..] else { panic!("{line}") };
        let scale: usize = scale.parse().unwrap();
        let whole = decode(name, &files[name]).unwrap();
        let side = whole.width.min(whole.height) / scale;
        let image = decode_draft(name, &files[name], side).unwrap();
        let got = format!("{} {} {}", image.width, image.height, &hex(&image.pixels)[..16]);
        assert_eq!(got, want, "{name} at 1/{scale}");
        scales[scale] += 1;
    }
    assert!([2, 4, 8].iter().all(|&scale| scales[scale] > 150), "{scales:?}");
}

/// The real photos; `golden/jpeg/photos.py` made the hashes with Pillow.
#[test]
fn photos_decode_to_pillows_bytes() {
    for (name, count, want) in [
        (
            "cifar10-jpeg.tar.gz",
            60_000,
            "33e6c5654ef9c548bb2914c628c5b2a889db3b6ddf8a234467ee8cd16f455fd0",
        ),
        (
            "signdigits100.tar.gz",
            2_062,
            "de36c0362c235ce170c2e14d1379f683ea09681fd20bc3e0abf81e24477d8db1",
        ),
        (
            "trashnet.tar.gz",
            2_527,
            "b615e29bf6c56e3e6c61e508f01aad2526b7e78832069315433442f082f24068",
        ),
    ] {
        let Some(path) = shared(name) else { continue };
        let archive = flate2::read::GzDecoder::new(File::open(path).unwrap());
        let mut lines = Vec::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let file = entry.path().unwrap().to_string_lossy().into_owned();
            if !file.to_lowercase().ends_with(".jpg") && !file.to_lowercase().ends_with(".jpeg") {
                continue;
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let image = decode(&file, &bytes).unwrap();
            let hash = hex(&image.pixels);
            lines.push(format!("{file} {} {} {hash}\n", image.width, image.height));
        }
        lines.sort();
        assert_eq!((lines.len(), hex(lines.concat().as_bytes())), (count, want.into()), "{name}");
    }
}

/// Where each scan header begins.
fn scans(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len() - 1).filter(|&i| bytes[i..i + 2] == [0xff, 0xda]).collect()
}

#[test]
fn the_number_of_scans_and_of_visits_is_bounded() {
    let good = file("progressive-scan-twice");
    let places = scans(&good);
    let scan = good[places[1]..places[2]].to_vec();
    let with = |count: usize| {
        let mut bytes = good[..places[1]].to_vec();
        bytes.extend(scan.repeat(count));
        bytes.extend(&good[places[1]..]);
        bytes
    };
    let of_one = decode("x.jpg", &with(1)).unwrap();
    assert_eq!(decode("x.jpg", &with(400)).unwrap().pixels, of_one.pixels);
    let reason = decode("x.jpg", &with(500)).unwrap_err().to_string();
    assert!(reason.contains("too many scans"), "{reason}");
    // Of a large image fewer scans are read: here scans that end at once, of 100 million pixels.
    let mut large = with(400);
    let frame = large.windows(2).position(|w| w == [0xff, 0xc2]).unwrap();
    large[frame + 5..frame + 9].copy_from_slice(&[39, 16, 39, 16]);
    let begin = std::time::Instant::now();
    let reason = decode("x.jpg", &large).unwrap_err().to_string();
    println!("{:.2} s", begin.elapsed().as_secs_f64());
    assert!(reason.contains("too many scans"), "{reason}");
}

#[test]
fn what_is_wrong_is_said() {
    let reason = |bytes: &[u8]| decode("x.jpg", bytes).unwrap_err().to_string();
    let plain = file("exif-1");
    let frame = plain.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    let changed = |changes: &[(usize, u8)]| {
        let mut bytes = plain.clone();
        changes.iter().for_each(|&(at, byte)| bytes[at] = byte);
        bytes
    };
    let scan = scans(&plain)[0];
    let tables = plain.windows(2).position(|w| w == [0xff, 0xc4]).unwrap();
    for (bytes, part) in [
        (plain[..plain.len() - 2].to_vec(), "ends too early"),
        (changed(&[(frame + 4, 12)]), "12 bits a sample"),
        (changed(&[(frame + 4, 16)]), "other than 8 bits a sample"),
        (changed(&[(frame + 1, 0xc3)]), "lossless or hierarchical coding"),
        (changed(&[(frame + 11, 0x51)]), "a bad sampling factor"),
        (changed(&[(frame + 11, 0x31), (frame + 14, 0x21)]), "samplings that do not divide"),
        (changed(&[(frame + 11, 0x44)]), "too many blocks in a unit"),
        (changed(&[(frame + 12, 3)]), "a missing quantisation table"),
        (changed(&[(scan + 5, 77)]), "a scan of a component that is not in the frame"),
        (changed(&[(scan + 6, 0x22)]), "a missing Huffman table"),
        // Five codes of one bit.
        (changed(&[(tables + 5, 5), (tables + 7, 0)]), "a bad Huffman table"),
        (changed(&[(tables + 5, 200)]), "a segment of wrong length"),
        ([&plain[..plain.len() - 2], &plain[..]].concat(), "a second start of an image"),
    ] {
        let text = reason(&bytes);
        assert!(text.contains(part) && text.contains("x.jpg"), "{part}: {text}");
    }
}
