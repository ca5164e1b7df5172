//! Which label an image of a shard has, and which names in an archive are of one image.

use tempfile::tempdir;

use crate::sources::{both, names, reasons, shard};
use crate::support::{plain, png, tar_gz, words, write};

#[test]
fn images_of_a_shard_have_the_labels_of_their_own_names() {
    let dir = tempdir().unwrap();
    let images: Vec<Vec<u8>> = (0..4).map(|i| png(4, 3, [i, 7, 9])).collect();
    let all: [(&str, &[u8]); 8] = [
        ("IMG_2020.0.png", &images[0]),
        ("IMG_2020.0.cls", b"a"),
        ("IMG_2020.1.png", &images[1]),
        ("IMG_2020.1.cls", b"b"),
        ("DSC.0.png", &images[2]),
        ("DSC.0.cls", b"b"),
        ("DSC.1.png", &images[3]),
        ("DSC.1.cls", b"a"),
    ];
    write(dir.path(), "dots.tar", &shard(&all));
    let data = both(&dir.path().join("dots.tar"));
    assert_eq!(names(&data.train), ["DSC.0.png", "DSC.1.png", "IMG_2020.0.png", "IMG_2020.1.png"]);
    assert_eq!(data.train.labels(), [1, 0, 0, 1]);
    // One label less: it is an image without one, or not clear whose the others are.
    write(dir.path(), "less.tar", &shard(&all[..7]));
    let data = both(&dir.path().join("less.tar"));
    assert_eq!(data.train.labels(), [1, 0, 1]);
    assert!(reasons(&data)[0].ends_with("DSC.1.png: no label (.cls)"), "{:?}", reasons(&data));
    let more = [&all[..], &[("DSC.2.png", &images[0])]].concat();
    write(dir.path(), "more.tar", &shard(&more));
    let text = words(plain(&dir.path().join("more.tar")));
    assert!(text.contains("found DSC.0.cls and DSC.1.cls for DSC.2.png"), "{text}");
    let twice = [&all[..], &[("DSC.1.CLS", b"b")]].concat();
    write(dir.path(), "twice.tar", &shard(&twice));
    let text = words(plain(&dir.path().join("twice.tar")));
    assert!(text.contains("found DSC.1.cls and DSC.1.CLS"), "{text}");
}

#[test]
fn names_of_other_bytes_are_other_images_in_archives_as_in_folders() {
    let dir = tempdir().unwrap();
    let images: Vec<Vec<u8>> = (0..5).map(|i| png(4, 3, [i, 7, 9])).collect();
    let entries: [(&str, &[u8]); 6] = [
        ("a/caf\u{e9}.png", &images[0]),
        ("a/cafe\u{301}.png", &images[1]),
        ("./b//x.png", &images[2]),
        // The same file again counts, as when the archive is unpacked.
        ("b/x.png", &images[3]),
        ("b/y\u{7}.png", &images[4]),
        ("b/y\\u{7}.png", &images[4]),
    ];
    write(dir.path(), "x.tar", &shard(&entries));
    write(dir.path(), "x.tar.gz", &tar_gz(&entries));
    for name in ["x.tar", "x.tar.gz"] {
        let data = both(&dir.path().join(name));
        let red: Vec<u8> = (0..5).map(|i| data.train.image(i).unwrap().pixels[0]).collect();
        assert_eq!(data.train.labels(), [0, 0, 1, 1, 1]);
        assert_eq!(red[2], 3, "{red:?}");
        assert!(red.contains(&0) && red.contains(&1), "{red:?}");
    }
}
