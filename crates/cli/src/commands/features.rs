//! `headstart features`.

use headstart::config::TrainConfig;
use headstart::export::{Columns, write_features};
use headstart::graph::{Graph, NodeId, Op};
use headstart::inference::features;
use headstart::job::open_data_for;
use headstart::nearest::did_you_mean;
use headstart::source::is_file;
use headstart::trainer::INFERENCE_BATCH;
use headstart::{Error, Model};
use serde::Serialize;

use super::{check, check_output, device, hub, model_for, settled, shard};
use crate::args::{Features, Split};
use crate::failure::Failure;
use crate::output::note;
use crate::progress::Progress;
use crate::{interrupt, output, show};

#[derive(Serialize)]
struct Written {
    file: String,
    layer: String,
    images: usize,
    features: usize,
    classes: Vec<String>,
}

/// Runs images through a net and writes a layer's outputs with the labels.
pub fn run(args: &Features) -> Result<(), Failure> {
    let part = args.shard.as_deref().map(str::parse).transpose().map_err(Failure::Usage)?;
    if part.is_none() {
        check_output(Some(&args.out), [&*args.data, &args.model])?;
        headstart::export::check_ending(&args.out).map_err(Failure::Usage)?;
    }
    let config = config(args)?;
    let device = device(args.threads, args.precision.into(), args.device)?;
    let opened = file(args).map(Model::open).transpose()?;
    let data = hub::watched(|watch| open_data_for(&config, opened.as_ref(), watch))?;
    note!("{}", data.describe());
    show::skipped(&data.skipped);
    let model = model_for(opened, &config, &data)?;
    let device = settled(device, (args.device, args.precision.into()), &model, INFERENCE_BATCH)?;
    let node = layer(&model.net.graph, args.layer.as_deref())?;
    interrupt::watch();
    if let Some(part) = part {
        return shard::features(args, part, &data, (&model, node), &device);
    }
    let mut progress = Progress::new(0);
    let mut columns = Columns { classes: data.classes.clone(), ..Columns::default() };
    for (split, subset) in data.parts(args.split.into())? {
        let total = subset.len();
        let mut show = |done| progress.images(&format!("features, {split}"), done, total);
        let batch = INFERENCE_BATCH;
        let Some(part) = features(&model, subset, &[node], &device, batch, &mut show)? else {
            return Err(Failure::Interrupted("nothing was written".into()));
        };
        columns.width = part.elements[0];
        columns.values.extend(part.tensors[0].as_slice().to_f32());
        columns.labels.extend(subset.labels());
        columns.names.extend((0..total).map(|i| subset.path(i).into_owned()));
        columns.splits.extend(std::iter::repeat_n(split, total));
    }
    write_features(&args.out, &columns)?;
    let written = Written {
        file: args.out.display().to_string(),
        layer: model.net.graph.nodes[node].name.clone(),
        images: columns.labels.len(),
        features: columns.width,
        classes: columns.classes,
    };
    if args.json {
        output::json(&written)?;
    } else {
        let Written { file, layer, images, features, .. } = written;
        output::line(format!("{file}: {layer} of {images} images, {features} numbers each"))?;
    }
    Ok(())
}

/// The settings that the flags mean.
fn config(args: &Features) -> Result<TrainConfig, Failure> {
    let given_size = args.upsample.is_some() || args.image_size.is_some();
    let given = given_size
        || args.interpolation.is_some()
        || args.fits.given()
        || args.preprocess.is_some()
        || args.weights.is_some();
    if file(args).is_some() && given {
        return Err(Failure::Usage(Error::invalid(
            args.model.clone(),
            "the name of a net with these flags",
            "a model file, which has these settings inside",
            "leave --weights and the flags of size, --interpolation, --fit, --decode and --preprocess out",
        )));
    }
    let defaults = TrainConfig::defaults(Some(&args.data), Some(&args.model));
    let interpolation = args.interpolation.map(Into::into);
    let mut config = TrainConfig {
        data: args.data.clone(),
        model: args.model.clone(),
        weights: args.weights.clone().unwrap_or(defaults.weights),
        upsample: args.upsample,
        image_size: args.image_size.or(defaults.image_size.filter(|_| !given_size)),
        interpolation: interpolation.or(defaults.interpolation.filter(|_| !given_size)),
        preprocess: args.preprocess.and_then(Into::into),
        validation_split: if args.split == Split::Validation { 0.1 } else { 0.0 },
        test_split: args.test_split.unwrap_or(0.0),
        seed: args.seed.unwrap_or(TrainConfig::default().seed),
        limit: args.limit,
        threads: args.threads,
        ..TrainConfig::default()
    };
    args.fits.over(&mut config);
    check(&config, file(args))?;
    Ok(config)
}

/// The model file, if one is given.
fn file(args: &Features) -> Option<&str> {
    Some(args.model.as_str()).filter(|model| is_file(model))
}

/// The layer of this name, or the global average pooling.
fn layer(graph: &Graph, name: Option<&str>) -> Result<NodeId, Failure> {
    let node = match name {
        None => graph.nodes.iter().position(|n| n.op == Op::GlobalAveragePool),
        Some(name) => graph.find(name).filter(|&n| n > 0),
    };
    node.ok_or_else(|| {
        let names = graph.nodes.iter().skip(1).map(|n| n.name.as_str());
        let name = name.unwrap_or("none");
        let hint = did_you_mean(name, names);
        Failure::Usage(Error::invalid("--layer", "a layer of the net", name, hint))
    })
}
