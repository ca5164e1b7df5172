//! Tiles that the clock chose on a GPU, through the binary.

use std::fs;

use crate::support::skip::skipped;
use crate::support::trained;

const PREDICT: &str = "predict run data/red/000.png --json --device gpu:0";

#[test]
fn tiles_are_kept_and_change_nothing() {
    let place = trained(5, "");
    let doctor = place.run("doctor --json").ok().json();
    let Some(adapter) = doctor["devices"].get(0) else {
        skipped("tiles by the clock: there is no GPU and no software for one");
        return;
    };
    let kept = place.cache().join("tiles.json");
    let predict = |tune: &str| {
        let mut command = place.command(PREDICT);
        command.env("HEADSTART_TUNE", tune);
        crate::support::Done::from(command.output().unwrap())
    };
    let usual = predict("off").ok().out;
    assert!(!kept.exists());
    // Software has little to choose.
    assert_eq!(predict("").ok().out, usual);
    assert_eq!(kept.exists(), adapter["kind"] != "software");
    predict("perhaps").fails(1, &["HEADSTART_TUNE", "on or off", "perhaps"]);
    assert_eq!(predict("on").ok().out, usual);
    let found = fs::read(&kept).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&found).unwrap();
    let (key, tiles) = json.as_object().unwrap().iter().next().unwrap();
    let name = adapter["name"].as_str().unwrap();
    assert!(key.contains(name) && key.ends_with(env!("CARGO_PKG_VERSION")), "{key}");
    let tiles = tiles.as_object().unwrap();
    assert!(tiles.len() > 5 && tiles.values().all(|tile| tile.as_u64().is_some()), "{json}");
    // What is known is not tried again.
    assert_eq!(predict("on").ok().out, usual);
    assert_eq!(fs::read(&kept).unwrap(), found);
    // A file that somebody damaged, or in which tiles are that there are not, does no harm.
    fs::write(&kept, &found[..found.len() / 2]).unwrap();
    assert_eq!(predict("on").ok().out, usual);
    let again: serde_json::Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    assert_eq!(again[key].as_object().unwrap().len(), tiles.len());
    let strange = String::from_utf8(found).unwrap();
    let strange = tiles.keys().fold(strange, |text, name| {
        let line = format!("{:?}: {}", name, tiles[name]);
        text.replace(&line, &format!("{name:?}: 4096"))
    });
    fs::write(&kept, strange).unwrap();
    assert_eq!(predict("on").ok().out, usual);
}
