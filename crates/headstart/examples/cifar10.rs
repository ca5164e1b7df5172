//! The job of the Keras tutorial "Supercharge Your AI: ResNet50 Transfer Learning Unleashed": ResNet-50 with
//! ImageNet weights on CIFAR-10, the head first, then everything from layer 100 on. The comments above each
//! step are the tutorial's lines.
//!
//!     cargo run --release --example cifar10 -- [DATA WEIGHTS [TRAINING_IMAGES]]
//!
//! Without arguments, data and weights are downloaded, once.

use headstart::dataset::DataOptions;
use headstart::events::Event;
use headstart::optimizer::Rule;
use headstart::report;
use headstart::run_folder::RunFolder;
use headstart::summary::Summary;
use headstart::{Control, Dataset, Device, Model, Phase, Settings, Trainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let images = arguments.next().unwrap_or("cifar10".into());
    let weights = arguments.next().unwrap_or("imagenet".into());
    let limit = arguments.next().map(|n| n.parse()).transpose()?;

    // (x_train, y_train), (x_test, y_test) = cifar10.load_data()
    // x_train, x_val, y_train, y_val = train_test_split(x_train, y_train, test_size=0.1)
    let options = DataOptions { validation_split: 0.1, limit, ..DataOptions::default() };
    let data = Dataset::load_with(&images, &options)?;
    println!("{}", data.describe());

    // base = ResNet50(weights="imagenet", include_top=False, input_shape=(224, 224, 3))
    // base.trainable = False
    // model = Sequential([Input((32, 32, 3)), UpSampling2D(7), base, GlobalAveragePooling2D(),
    //                     Dense(10, activation="softmax")])
    // model.summary()
    let mut model = Model::builder("resnet50").weights(weights).upsampling(7).build(&data)?;
    println!("{}", Summary::new(&model.net, &model.net.head_only()));

    // model.compile(optimizer=RMSprop(1e-4), loss="categorical_crossentropy", metrics=["accuracy"])
    // history = model.fit(x_train, y_train, batch_size=20, epochs=5, validation_data=(x_val, y_val))
    let settings = Settings { batch_size: 20, rule: Rule::RMSPROP, ..Settings::default() };
    let fine_tune_at = model.net.freeze_point("100")?;
    let mut trainer = Trainer::new(&mut model, &data, Device::cpu(0)?, settings)?;
    let folder = RunFolder::create_next("runs/cifar10")?;
    let path = folder.path().to_path_buf();
    trainer.record_in(folder)?;
    let mut watch = |event: &Event| {
        if let Event::Epoch(e) = event {
            println!("epoch {}: loss {:.4}, validation {:?}", e.epoch, e.loss, e.val_accuracy);
        }
        Control::Continue
    };
    trainer.fit(&Phase::head(5, 1e-4), &mut watch)?;

    // model.evaluate(x_test, y_test)
    let frozen = trainer.evaluate(&mut watch)?;

    // for layer in base.layers[fine_tune_at:]: layer.trainable = True
    // model.compile(...); model.fit(..., epochs=10, initial_epoch=5)
    trainer.fit(&Phase::fine_tune(fine_tune_at, 5, 1e-4), &mut watch)?;

    // model.evaluate(x_test, y_test)
    let tuned = trainer.evaluate(&mut watch)?;
    for report in frozen.iter().chain(&tuned) {
        println!("{report}");
    }

    // plt.plot(history.history["accuracy"]); plt.plot(history.history["val_accuracy"])
    report::draw(&path, &trainer.history, tuned.as_ref())?;

    // model.save("cifar10.keras")
    model.save("cifar10.safetensors")?;
    Ok(())
}
