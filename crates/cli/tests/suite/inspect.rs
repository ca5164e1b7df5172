//! `summary`, `explain` and `bench` on the real binary.

use std::fs;

use crate::support::{self, Place, list};

#[test]
fn summary_lists_kerass_layers_and_totals() {
    let place = Place::new();
    let out = place.run("summary resnet50").ok().out;
    assert!(out.contains("layers without the head: 175"), "{out}");
    assert!(out.contains("total params: 23,587,712"));
    let out = place.run("summary resnet50 --fine-tune-at 100").ok().out;
    assert!(out.contains("trainable params: 19,473,418"), "{out}");
    assert!(out.contains("up_sampling2d"));
    let json = place.run("summary resnet50 --json").ok().json();
    let rows = json.as_array().unwrap();
    assert_eq!(rows.len(), 175);
    let expected = serde_json::json!({
        "index": 100, "name": "conv4_block2_3_bn", "type": "BatchNormalization",
        "output_shape": [14, 14, 1024], "params": 4096, "trainable": true
    });
    assert_eq!(rows[100], expected);
}

#[test]
fn explain_lists_steps_with_operations_and_arena() {
    let place = Place::new();
    let out = place.run("explain --phase forward --batch-size 1").ok().out;
    assert!(
        out.contains("upsample x7+pad+conv7x7/2+bn+relu+pad+max pool")
            && out.contains("conv1x1+bn+add+relu"),
        "{out}"
    );
    assert!(out.contains("operations: 7.7") && out.contains("arena: "), "{out}");
    let json = place.run("explain --model resnet20 --upsample 1 --phase fine-tune --fine-tune-at 20 --measure --json");
    let json = json.ok().json();
    let plans = json.as_array().unwrap();
    assert_eq!(plans.len(), 2);
    let total: u64 =
        plans[1]["steps"].as_array().unwrap().iter().map(|s| s["flops"].as_u64().unwrap()).sum();
    assert_eq!(plans[1]["flops"].as_u64().unwrap(), total);
    assert!(plans[1]["steps"][0]["milliseconds"].as_f64().unwrap() > 0.0);
    // A head of 7: 2 x 64 x 3 operations an image less than with 10 classes.
    let flops = |classes: &str| {
        let line =
            format!("explain --model resnet20 --phase forward --batch-size 1 {classes} --json");
        place.run(&line).ok().json()[0]["flops"].as_u64().unwrap()
    };
    assert_eq!(flops("") - flops("--classes 7"), 2 * 64 * 3);
}

#[test]
fn bench_prints_its_fields() {
    let place = Place::new();
    let work = |classes: &str| {
        let line =
            "bench --model resnet20 --upsample 1 --batch-size 1 --repeat 1 --phase forward --json";
        let json = place.run(&format!("{line} {classes}")).ok().json();
        json["gflops_per_image"].as_f64().unwrap()
    };
    let more = work("--classes 1010") - work("");
    assert!((more - 2e-9 * 64.0 * 1000.0).abs() < 1e-9, "{more}");
    for phase in [
        "forward",
        "head",
        "fine-tune --fine-tune-at 20",
        "fine-tune --fine-tune-at 20 --cached",
        "full",
    ] {
        let line = format!(
            "bench --model resnet20 --upsample 1 --batch-size 4 --repeat 1 --phase {phase} --json"
        );
        let json = place.run(&line).ok().json();
        for field in [
            "model",
            "phase",
            "precision",
            "batch",
            "threads",
            "isa",
            "images_per_second",
            "gflops_per_image",
            "achieved_gflops",
            "peak_gflops",
            "fraction_of_peak",
            "peak_rss_mb",
        ] {
            assert!(!json[field].is_null(), "{phase}: no {field} in {json}");
        }
        assert!(json["images_per_second"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_report_of_all_measurements_can_be_sent() {
    let place = Place::new();
    let line = "bench --model resnet20 --image-size 8 --upsample 1 --batch-size 2 --repeat 1";
    let done = place.run(&format!("{line} --report r.json")).ok();
    assert!(done.out.contains("r.json: 8 measurements"), "{}", done.out);
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.path("r.json")).unwrap()).unwrap();
    assert!(report["machine"]["version"].is_string(), "{report}");
    // Nobody sends a folder's name or a variable to strangers by mistake.
    let text = report.to_string();
    let cache = place.cache().to_str().unwrap();
    assert!(!text.contains(cache) && !text.contains("HEADSTART_CACHE"), "{report}");
    let measured = report["measured"].as_array().unwrap();
    let of =
        |row: &serde_json::Value| format!("{} {}", row["phase"].as_str().unwrap(), row["batch"]);
    let names: Vec<String> = measured.iter().map(of).collect();
    assert_eq!(names[..3], ["forward 2", "forward 256", "head 2"]);
    for row in measured {
        assert!(
            row["images_per_second"].as_f64().unwrap() > 0.0 && row["device"] == "cpu",
            "{row}"
        );
    }
    place.run(&format!("{line} --report r.json --json")).fails(2, &["--report", "--json"]);
}

#[test]
fn completions_and_manual_pages_know_every_command_and_flag() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&format!("completions {shell}")).ok().out;
        assert!(["evaluate", "fine-tune-at"].iter().all(|w| script.contains(w)), "{shell}");
    }
    place.run("completions tcsh").fails(2, &["tcsh", "bash"]);
    let pages = place.run("man pages/man1").ok().out;
    assert_eq!(pages.lines().count(), list(&place.path("pages/man1")).len());
    let help = place.run("--help").ok().out;
    let commands = help.lines().skip_while(|l| !l.starts_with("Commands:")).skip(1);
    let commands = commands.take_while(|l| !l.is_empty());
    let names = commands.filter_map(|l| l.split_whitespace().next()).filter(|&c| c != "help");
    for name in names.filter(|n| n.len() > 2) {
        let page = format!("headstart-{name}.1");
        assert!(pages.contains(&page), "{page}");
        assert!(place.path("pages/man1").join(page).is_file());
    }
    let page = fs::read_to_string(place.path("pages/man1/headstart-train.1")).unwrap();
    assert!(page.contains(r"\-\-fine\-tune\-at"), "{page}");
    fs::write(place.path("file"), "").unwrap();
    place.run("man file/below").fails(1, &["file", "expected a folder"]);
}

#[test]
fn doctor_tells_what_is_used_and_what_would_change_it() {
    let place = Place::new();
    fs::create_dir_all(place.path("cache/weights")).unwrap();
    fs::write(place.path("cache/weights/some.h5"), [0; 3000]).unwrap();
    let doctor = |line: &str| -> support::Done {
        let mut command = place.command(line);
        command.env("HEADSTART_ISA", "portable").env("HEADSTART_CACHE", place.path("cache"));
        command.output().unwrap().into()
    };
    let json = doctor("doctor --threads 1 --json").ok().json();
    assert_eq!(json["threads"], 1);
    assert_eq!(json["cache"]["bytes"], 3000);
    assert_eq!(json["cache"]["entries"][0], serde_json::json!(["weights", 3000]));
    let sets = json["instruction_sets"].as_array().unwrap();
    let chosen: Vec<_> = sets.iter().filter(|s| s["chosen"] == true).collect();
    assert_eq!(chosen.len(), 1);
    assert_eq!(chosen[0]["name"], "portable");
    for set in sets {
        let peak = set["peak_gflops"].as_f64();
        assert_eq!(peak.is_some_and(|p| p > 0.0), set["available"] == true, "{set}");
    }
    // Either there are adapters, or what is missing is named.
    let (devices, missing) = (&json["devices"], &json["missing"]);
    assert!(devices.as_array().is_some() && missing.as_array().is_some(), "{json}");
    for (i, device) in devices.as_array().unwrap().iter().enumerate() {
        assert_eq!(device["device"], format!("gpu:{i}"));
        assert!(device["largest_buffer"].as_u64() > Some(1 << 20), "{device}");
    }
    let hard = |d: &serde_json::Value| d["kind"] != "software";
    let any = devices.as_array().unwrap().iter().any(hard);
    assert!(any || !missing.as_array().unwrap().is_empty(), "{json}");
    let memory = &json["memory"];
    assert!(memory["available"].as_u64() <= memory["total"].as_u64(), "{memory}");
    assert!(memory["total"].as_u64() > Some(1 << 20), "{memory}");
    let environment = json["environment"].as_array().unwrap();
    assert!(environment.contains(&serde_json::json!(["HEADSTART_ISA", "portable"])));
    let out = doctor("doctor --threads 1").ok().out;
    for part in ["portable    chosen", "--threads", "--cache-memory", "HEADSTART_CACHE", "devices"]
    {
        assert!(out.contains(part), "no {part} in {out}");
    }
    place.holds(&["cache"]);
}

#[test]
fn doctor_refuses_unknown_kernels_and_too_many_threads() {
    let place = Place::new();
    let output = place.command("doctor").env("HEADSTART_ISA", "mmx").output().unwrap();
    support::Done::from(output).fails(1, &["mmx", "HEADSTART_ISA", "portable"]);
    place.run("doctor --threads 100000").fails(2, &["--threads", "1024"]);
}

#[test]
fn the_help_of_train_is_short_and_there_is_one_with_everything() {
    let place = Place::new();
    let short = place.run("train --help").ok().out;
    assert_eq!(place.run("train -h").ok().out, short);
    let all = place.run("train --help-all").ok().out;
    for part in [
        "\nData and presets:\n",
        "\nNet and phases:\n",
        "\nResults and machine:\n",
        "--data ",
        "--recipe ",
        "--help-all",
    ] {
        assert!(short.contains(part) && all.contains(part), "{part} in: {short}");
    }
    for rare in ["--beta-1 ", "--layer-decay ", "--cache-disk "] {
        assert!(!short.contains(rare) && all.contains(rare), "{rare}");
    }
    assert!(short.lines().count() <= 48 && all.lines().count() > 200);
    // Pages and completions have all flags.
    place.run("man pages").ok();
    let page = fs::read_to_string(place.path("pages/headstart-train.1")).unwrap();
    let script = place.run("completions bash").ok().out;
    for flag in ["layer-decay", "beta-1", "recipe", "help-all"] {
        assert!(page.replace('\\', "").contains(flag) && script.contains(flag), "{flag}");
    }
}
