//! Formats besides JPEG and those of `images.rs`, and orientations wherever they are written, against Pillow's and libjxl's
//! pixels (`generate.py` of `golden/formats` and `golden/readers`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use headstart::image::{Rgb8, decode};
use sha2::{Digest, Sha256};

use crate::support::golden_files;

/// The files by name, and the lines of `pixels.txt`: name, then width, height and hash, or `refused`.
fn golden() -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    golden_files("formats", "")
}

fn file(name: &str) -> Vec<u8> {
    golden().0.remove(name).unwrap_or_else(|| panic!("no {name}"))
}

fn line_of(image: &Rgb8<'_>) -> String {
    let hash = Sha256::digest(&image.pixels);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} {} {hex}", image.width, image.height)
}

/// Files that Pillow refuses and that are read here, each with one that has the same pixels.
const READ_TOO: [(&str, &str); 6] = [
    ("tiff-big-motorola.tif", "tiff-big.tif"),
    ("tiff-grey-big-motorola.tif", "tiff-grey-big.tif"),
    ("tiff-1-bits-3-reversed.tif", "tiff-1-bits-3.tif"),
    ("tiff-2-bits-3-reversed.tif", "tiff-2-bits-3.tif"),
    ("tiff-4-bits-3-reversed.tif", "tiff-4-bits-3.tif"),
    ("tiff-8-bits-0-reversed.tif", "tiff-8-bits-0.tif"),
];

#[test]
fn every_file_decodes_to_pillows_pixels() {
    let (files, lines) = golden();
    let want: BTreeMap<&str, &str> =
        lines.iter().map(|line| line.split_once(' ').unwrap()).collect();
    let (mut same, mut refused, mut near, mut deep, mut wrong) = (0, 0, 0, 0, Vec::new());
    for (&name, &expected) in &want {
        let twin = READ_TOO.iter().find(|pair| pair.0 == name).map(|pair| want[pair.1]);
        let expected = twin.unwrap_or(expected);
        match (decode(name, &files[name]), files.get(&name.replace(".jxl", ".rgb"))) {
            (Ok(image), Some(rgb)) if name.ends_with(".jxl") => {
                let difference = |(a, b): (&u8, &u8)| u64::from(a.abs_diff(*b));
                let all = || image.pixels.iter().zip(rgb).map(difference);
                let (most, sum) = (all().max().unwrap(), all().sum::<u64>());
                let mean = sum as f64 / rgb.len() as f64;
                println!("{name}: at most {most}, mean {mean:.4}");
                assert_eq!(image.pixels.len(), rgb.len(), "{name}");
                assert!(most <= 2 && mean <= 0.5, "{name}: {most}, {mean}");
                near += 1;
            }
            (Ok(image), _) => match line_of(&image) == expected {
                true => same += 1,
                // Pillow refuses it for what is of no use here.
                false if expected == "refused" => println!("{name} is read"),
                false => wrong.push(format!("{name}: {} for {expected}", line_of(&image))),
            },
            // Pillow clips what is above 255.
            (Err(error), _) if name.contains("I16") => {
                assert!(error.to_string().contains("16 bits"), "{error}");
                deep += 1;
            }
            (Err(_), _) if expected == "refused" => refused += 1,
            (Err(error), _) => wrong.push(format!("{name}: {error}")),
        }
    }
    println!("{same} the same, {near} near, {refused} refused by both, {deep} too deep");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(same >= 381 && near == 4 && refused >= 14, "{same} {near} {refused}");
}

#[test]
fn pictures_beside_their_screens_and_damaged_ends_are_what_they_are_to_pillow() {
    let (files, lines) = golden_files("readers", "");
    let (mut same, mut refused, mut wrong) = (0, 0, Vec::new());
    for line in &lines {
        let (name, expected) = line.split_once(' ').unwrap();
        match decode(name, &files[name]) {
            Ok(image) if line_of(&image) == expected => same += 1,
            Err(_) if expected == "refused" => refused += 1,
            other => {
                let found = other.map_or_else(|e| e.to_string(), |image| line_of(&image));
                wrong.push(format!("{name}: {found} for {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(same >= 130 && refused >= 44, "{same} {refused}");
}

#[test]
fn time_follows_what_a_file_holds_and_not_the_size_that_it_says() {
    let start = Instant::now();
    let screen = |side: u16| {
        let [low, high] = side.to_le_bytes();
        let head = [b"GIF89a".as_slice(), &[low, high, low, high, 0x80, 0, 0], &[0; 6]].concat();
        [&head[..], b",\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0;"].concat()
    };
    let runs = |side: u32| {
        let mut bytes = b"BM\0\0\0\0\0\0\0\0\x36\x04\0\0\x28\0\0\0".to_vec();
        bytes.extend(side.to_le_bytes());
        bytes.extend(side.to_le_bytes());
        bytes.extend(b"\x01\0\x08\0\x01\0\0\0".iter().chain(&[0; 20 + 1024]));
        // Moves up by 255 rows each, and the end.
        (0..side.div_ceil(255)).for_each(|_| bytes.extend(b"\0\x02\0\xff"));
        bytes.extend(b"\0\x01");
        bytes
    };
    // One colour, in a code that takes no bits.
    let webp = |side: u32| {
        let sizes = ((side - 1) | (side - 1) << 14).to_le_bytes();
        let mut bytes = b"RIFF\x20\0\0\0WEBPVP8L\x14\0\0\0\x2f".to_vec();
        bytes.extend(sizes);
        bytes.extend(b"\x88\x88\x08\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes
    };
    for (name, file, bytes) in [
        ("x.gif", screen(10_000), "35"),
        ("x.bmp", runs(10_000), "1,240"),
        ("x.webp", webp(10_000), "40"),
    ] {
        let error = decode(name, &file).unwrap_err().to_string();
        let said = format!("10000x10000 pixels in {bytes} bytes");
        assert!(error.contains(&said), "{name}: {error}");
    }
    // Of what is no larger than photos, all is read.
    for (name, file) in [("x.gif", screen(300)), ("x.bmp", runs(300)), ("x.webp", webp(300))] {
        let image = decode(name, &file).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((image.width, image.height), (300, 300));
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn orientation_is_found_wherever_it_is_written() {
    let (files, lines) = golden();
    // All of these stand upright when 16 by 8 pixels have become 8 by 16; others say so by another number.
    let (mut turned, mut upright) = (0, 0);
    for line in &lines {
        let (name, rest) = line.split_once(' ').unwrap();
        if ["jpeg-", "png-", "webp-"].iter().any(|kind| name.starts_with(kind)) {
            let image = decode(name, &files[name]).unwrap();
            match (image.width, image.height) {
                (8, 16) => turned += 1,
                (16, 8) => upright += 1,
                other => panic!("{name}: {other:?}"),
            }
            assert!(
                rest.starts_with(&format!("{} {}", image.width, image.height))
                    || name.contains("type-6"),
                "{name}: {rest}"
            );
        }
    }
    assert!(turned >= 30 && upright >= 5, "{turned} {upright}");
    // Pillow takes no BYTE for a number; a program that writes one means it.
    let tiff = file("tiff-orientation-6.tif");
    let at = tiff.windows(4).position(|w| w == [0x12, 1, 3, 0]).unwrap();
    let mut byte = tiff.clone();
    byte[at + 2] = 1;
    let (a, b) = (decode("x", &tiff).unwrap(), decode("x", &byte).unwrap());
    assert_eq!((a.width, a.height, a.pixels), (b.width, b.height, b.pixels));
}

/// A TIFF of one directory with these tags, each of one LONG.
fn tiff(tags: &[(u16, u32)], data: &[u8]) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend((tags.len() as u16).to_le_bytes());
    for (tag, value) in tags {
        bytes.extend(tag.to_le_bytes());
        bytes.extend([4, 0, 1, 0, 0, 0]);
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    [&bytes, data].concat()
}

#[test]
fn claims_do_not_take_memory_or_time() {
    let begin = Instant::now();
    let reason = |bytes: &[u8]| decode("x", bytes).unwrap_err().to_string();
    let huge = [60_000_u16, 60_000].map(u16::to_le_bytes).concat();
    let mut tga = file("tga-RGB-None-1-9x7.tga");
    tga[12..16].copy_from_slice(&huge);
    let mut qoi = file("qoi-RGB-9x7.qoi");
    qoi[4..12].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let mut icon = file("ico-24-bits.ico");
    icon[22 + 4..22 + 12].copy_from_slice(&[60_000_u32, 120_000].map(u32::to_le_bytes).concat());
    let tags = [(256, 60_000), (257, 60_000), (258, 8), (259, 1), (262, 1), (273, 8)];
    // A size of two times 30 bits: 60000 less 1 each.
    let size = 3_u64 << 1 | 59_999 << 3 | 3 << 36 | 59_999 << 38;
    let mut jxl = vec![0xff, 0x0a];
    jxl.extend(size.to_le_bytes());
    jxl.extend([0; 8]);
    for (name, bytes) in [
        ("TGA", tga),
        ("QOI", qoi),
        ("ICO", icon),
        ("TIFF", tiff(&tags, &[0; 64])),
        ("JPEG XL", jxl),
    ] {
        let text = reason(&bytes);
        assert!(text.contains(name) && text.contains("the limit is 100 million"), "{name}: {text}");
    }
    // Sizes within the limit, of which nearly nothing is there.
    let mut tga = file("tga-RGB-tga_rle-1-9x7.tga");
    tga[12..16].copy_from_slice(&[4_000_u16, 4_000].map(u16::to_le_bytes).concat());
    assert!(reason(&tga).contains("a TGA that ends too early"), "{}", reason(&tga));
    let mut qoi = file("qoi-RGB-9x7.qoi");
    qoi[4..12].copy_from_slice(&[0, 0, 0x0f, 0xa0, 0, 0, 0x0f, 0xa0]);
    assert!(reason(&qoi).contains("a QOI that ends too early"), "{}", reason(&qoi));
    for compression in [1, 5, 8, 32773] {
        let tags = [(256, 4000), (257, 4000), (258, 8), (259, compression), (262, 1), (273, 8)];
        let text = reason(&tiff(&tags, &[0; 64]));
        assert!(text.contains("TIFF"), "{text}");
    }
    // A picture of one pixel in a tile of a hundred billion.
    let mut tags = vec![(256, 1), (257, 1), (258, 8), (259, 8), (262, 1)];
    tags.extend([(322, 1 << 19), (323, 1 << 19), (324, 8), (325, 4)]);
    assert!(reason(&tiff(&tags, &[0; 64])).contains("tiles of"), "{}", reason(&tiff(&tags, &[])));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
fn what_is_not_read_is_named_with_what_converts_it() {
    let reason = |bytes: &[u8]| decode("x", bytes).unwrap_err().to_string();
    let base = [(256, 2), (257, 2), (258, 8), (259, 1), (262, 1), (273, 8)];
    let with = |more: &[(u16, u32)]| {
        let kept = base.iter().filter(|(tag, _)| !more.iter().any(|(other, _)| other == tag));
        let mut tags: Vec<(u16, u32)> = kept.chain(more).copied().collect();
        tags.sort();
        tiff(&tags, &[0; 64])
    };
    for (bytes, parts) in [
        (with(&[(258, 16)]), ["samples of 16 bits", "-depth 8"]),
        (with(&[(258, 12)]), ["samples of 12 bits", "magick"]),
        (with(&[(258, 32), (339, 3)]), ["floating-point samples of 32 bits", "magick"]),
        (with(&[(259, 50000)]), ["Zstandard compression", "magick"]),
        (with(&[(259, 6)]), ["old JPEG compression", "magick"]),
        (with(&[(259, 3)]), ["fax (group 3) compression", "magick"]),
        (with(&[(262, 8), (277, 3)]), ["Lab colours", "magick"]),
        (with(&[(262, 6), (277, 3)]), ["YCbCr colours without JPEG", "magick"]),
        (with(&[(50706, 0x401)]), ["camera raw", "darktable-cli"]),
        (with(&[(262, 32803)]), ["camera raw", "darktable-cli"]),
        (with(&[(254, 1), (330, 8)]), ["camera raw", "darktable-cli"]),
        (with(&[(262, 2)]), ["1 samples a pixel", "too few"]),
        (with(&[(262, 3)]), ["without its palette", "TIFF"]),
        (with(&[(277, 200)]), ["200 samples", "magick"]),
        (with(&[(273, 5000)]), ["ends too early", "TIFF"]),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0".to_vec(), ["without a size", "TIFF"]),
        (b"\0\0\0\x18ftypheic\0\0\0\0".to_vec(), ["HEIC", "heif-convert"]),
        (b"\0\0\0\x18ftypavif\0\0\0\0".to_vec(), ["AVIF", "avifdec"]),
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(), ["SVG", "rsvg-convert"]),
        (b"\0\0\0\x0cjP  \r\n\x87\n".to_vec(), ["JPEG 2000", "opj_decompress"]),
        ([&[0; 128][..], b"DICM"].concat(), ["DICOM", "dcm2img"]),
        (b"8BPS\0\x01".to_vec(), ["Photoshop", "magick FILE[0]"]),
    ] {
        let text = reason(&bytes);
        assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
    }
}

/// Fails on the words for a decoder panic that was caught; the size of what decodes is right.
fn holds_together(name: &str, bytes: &[u8]) {
    match decode(name, bytes) {
        Ok(image) => assert_eq!(image.pixels.len(), image.width * image.height * 3),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(name) && !text.contains("cannot handle"), "{text}");
        }
    }
}

#[test]
fn damaged_files_never_panic() {
    use proptest::prelude::*;
    use proptest::sample::Index;
    use proptest::test_runner::{Config, TestRunner};
    let files: Vec<(String, Vec<u8>)> =
        golden().0.into_iter().filter(|(name, _)| !name.ends_with(".rgb")).collect();
    let change = (any::<Index>(), any::<u8>());
    let strategy = (any::<Index>(), prop::collection::vec(change, 1..6), any::<Index>());
    let config = Config { failure_persistence: None, ..Config::with_cases(3000) };
    TestRunner::new(config)
        .run(&strategy, |(file, changes, cut)| {
            let (name, good) = &files[file.index(files.len())];
            let mut bad = good.clone();
            for (at, byte) in changes {
                // Where JPEG XL has its size.
                let first = if name.ends_with(".jxl") { bad.len() / 4 } else { 0 };
                let place = first + at.index(bad.len() - first);
                bad[place] = byte;
            }
            bad.truncate(bad.len() - cut.index(bad.len()) / 8);
            // Sizes stay small: a picture of the greatest size allowed takes seconds.
            let small = decode_size(&bad).is_none_or(|pixels| pixels < 1 << 20);
            if small {
                holds_together(name, &bad);
            }
            Ok(())
        })
        .unwrap();
}

/// Pixels that the headers of TIFF, TGA and QOI claim, where these are easily found.
fn decode_size(bytes: &[u8]) -> Option<u64> {
    let number = |at: usize, count: usize, little: bool| {
        let part = bytes.get(at..at + count)?;
        let add = |n: u64, b: &u8| n << 8 | u64::from(*b);
        Some(match little {
            true => part.iter().rev().fold(0, add),
            false => part.iter().fold(0, add),
        })
    };
    if bytes.starts_with(b"qoif") {
        return Some(number(4, 4, false)?.saturating_mul(number(8, 4, false)?));
    }
    if bytes.starts_with(b"II") || bytes.starts_with(b"MM") {
        // Of both orders and widths of numbers the greatest, near where tags have them.
        let little = bytes[0] == b'I';
        let sides = (8..bytes.len().min(400)).filter_map(|at| {
            let (tag, kind) = (number(at, 2, little)?, number(at + 2, 2, little)?);
            let value = number(at + 8, if kind == 3 { 2 } else { 4 }, little);
            matches!(tag, 256 | 257 | 322 | 323).then(|| value.unwrap_or(0))
        });
        return Some(sides.filter(|&side| side < 1 << 24).max().unwrap_or(0).pow(2));
    }
    let sides = [number(12, 2, true)?, number(14, 2, true)?];
    bytes.get(2).filter(|kind| matches!(kind, 1..=3 | 9..=11)).map(|_| sides[0] * sides[1])
}

#[test]
fn files_cut_short_anywhere_never_panic() {
    for (name, good) in golden().0 {
        if name.ends_with(".rgb") {
            continue;
        }
        // Every place in small files, some in the others.
        let step = (good.len() / 60).max(1);
        for length in (0..good.len()).step_by(step) {
            holds_together(&name, &good[..length]);
        }
    }
}
