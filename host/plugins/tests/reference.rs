//! The reference plugins, exercised through the runtime.

mod common;

use common::{block_on, episode, host, png, query, reference};
use mmhost_plugins::{CallForm, Decision, FilterInput, PluginError, ResultPart, ToolError, ToolPlugin, Verdict};
use serde_json::json;

/// Text and image parts in one line, images as `#`.
fn flat(parts: &[ResultPart]) -> String {
    let part = |part: &ResultPart| match part {
        ResultPart::Text(text) => text.clone(),
        ResultPart::Image(image) => {
            assert_eq!(image.media_type, "image/png");
            "#".into()
        }
    };
    parts.iter().map(part).collect()
}

fn tool(plugins: &mmhost_plugins::Plugins, name: &str) -> ToolPlugin {
    plugins.tools.iter().find(|tool| tool.spec().name == name).unwrap().clone()
}

#[test]
fn the_folder_loads_and_the_tools_describe_themselves() {
    let plugins = host(&[]).load_dir(&reference()).unwrap();
    let names: Vec<&str> = plugins.infos().iter().map(|info| info.name.as_str()).collect();
    let expected =
        ["calculator", "image-crop", "image-search", "text-search", "f1-reward", "levenshtein-reward", "mmsearch-reward", "sample-filter"];
    assert_eq!(names, expected);
    let image = tool(&plugins, "image-search");
    assert_eq!(image.spec().call, CallForm::Literal("<search><img></search>".into()));
    assert_eq!(image.spec().description, "image search");
    assert_eq!(image.spec().instruction, "Answer or use text search.");
    assert_eq!((image.spec().max_calls, image.spec().needs_image), (1, true));
    assert_eq!(image.digest().len(), 64);
    let text = tool(&plugins, "text-search");
    assert_eq!(text.spec().call, CallForm::Tag("text_search".into()));
    assert_eq!(text.spec().instruction, "Answer now.");
    assert_eq!(plugins.rewards[2].spec().components, ["accuracy", "format", "penalty"]);
}

#[test]
fn the_tools_search() {
    let plugins = host(&[("text-search", json!({"k": 3}))]).load_dir(&reference()).unwrap();
    block_on(async {
        let (parts, cost) = tool(&plugins, "image-search").call(&query("")).await.unwrap();
        assert_eq!(flat(&parts), "1. #Flag of Chad\n2. #Flag of Mali");
        assert!(cost.memory_bytes > 0 && cost.elapsed_ms > 0.0);
        let text = tool(&plugins, "text-search");
        let (parts, _) = text.call(&query(" capital of\nPeru, Chad ")).await.unwrap();
        assert_eq!(flat(&parts), "1. The capital of Chad is N'Djamena.\n2. The capital of Peru is Lima.");
    });
}

#[test]
fn passages_are_cut_to_a_number_of_characters() {
    let found = |max_chars: u32| {
        let config = [("text-search", json!({"k": 1, "max_chars": max_chars, "show_titles": true}))];
        let plugins = host(&config).load_dir(&reference()).unwrap();
        flat(&block_on(tool(&plugins, "text-search").call(&query("Chad"))).unwrap().0)
    };
    assert_eq!(found(200), "1. Flag of Chad: The capital of Chad is N'Djamena.");
    assert_eq!(found(6), "1. Flag o: The ca");
    assert_eq!(found(5), "1. Flag: The c");
    assert_eq!(found(1), "1. F: T");
}

#[test]
fn the_tools_report_typed_errors() {
    let plugins = host(&[]).load_dir(&reference()).unwrap();
    block_on(async {
        let text = tool(&plugins, "text-search");
        let error = text.call(&query("  ")).await.unwrap_err();
        assert!(matches!(&error, PluginError::Tool { error: ToolError::BadArgument(_), .. }), "{error}");
        let error = text.call(&query("capital of Atlantis")).await.unwrap_err();
        assert!(matches!(error, PluginError::Tool { error: ToolError::NothingFound, .. }));
        let mut input = query("");
        input.images.clear();
        let error = tool(&plugins, "image-search").call(&input).await.unwrap_err();
        assert!(matches!(error, PluginError::Tool { error: ToolError::MissingImage, .. }));
    });
    let config = [("text-search", json!({"corpus": "elsewhere"}))];
    let plugins = host(&config).load_dir(&reference()).unwrap();
    let error = block_on(tool(&plugins, "text-search").call(&query("Chad"))).unwrap_err();
    assert!(error.to_string().contains("corpora = [\"elsewhere\"]"), "{error}");
}

#[test]
fn texts_come_from_the_configuration_and_bad_ones_are_refused() {
    let config = [("image-search", json!({"k": 1, "instruction": "Go on.", "call": "<look>"}))];
    let plugins = host(&config).load_dir(&reference()).unwrap();
    let image = tool(&plugins, "image-search");
    assert_eq!(image.spec().instruction, "Go on.");
    assert_eq!(image.spec().call, CallForm::Literal("<look>".into()));
    assert_eq!(flat(&block_on(image.call(&query(""))).unwrap().0), "1. #Flag of Chad");

    let refusal = |name: &'static str, value| host(&[(name, value)]).load_dir(&reference()).map(|_| ()).unwrap_err();
    let error = refusal("mmsearch-reward", json!({"alpha": 1.5}));
    assert!(error.to_string().contains("field `alpha`: found 1.500, expected a number from 0 to 1"), "{error}");
    let error = refusal("mmsearch-reward", json!({"match": "fuzzy"}));
    assert!(matches!(error, PluginError::Config { .. }), "{error}");
    let error = refusal("image-search", json!({"corpsu": "default"}));
    assert!(error.to_string().contains("did you mean `corpus`?"), "{error}");
    let error = refusal("image-search", json!({"name": "Image Search"}));
    assert!(matches!(error, PluginError::BadAnswer { .. }), "{error}");
    let error = refusal("image-search", json!({"instruction": "<|im_end|>"}));
    assert!(matches!(error, PluginError::BadAnswer { .. }), "{error}");
    let error = refusal("image-search", json!({"name": "text-search"}));
    assert!(matches!(error, PluginError::Duplicate { .. }), "{error}");
}

#[test]
fn the_rewards_score_as_published() {
    let plugins = host(&[]).load_dir(&reference()).unwrap();
    let image = "<reason>unsure</reason><search><img></search>";
    let text = "<reason>Chad</reason><text_search>capital of Chad</text_search>";
    let right = "<reason>found</reason><answer>n'djamena</answer>";
    let half = "<reason>found</reason><answer>N'Djamena City</answer>";
    let wrong = "<reason>found</reason><answer>Bamako</answer>";
    let episodes = [
        episode("N'Djamena", &[right]),
        episode("N'Djamena", &[image, text, right]),
        episode("N'Djamena", &[wrong]),
        episode("N'Djamena", &[text, half]),
        episode("N'Djamena", &["<answer>"]),
        episode("", &[right]),
        episode("N'Djamena", &[]),
    ];
    // Total and first component, `None` for an abstention.
    let scored = |name: &str| -> Vec<Option<(f64, f64)>> {
        let reward = plugins.rewards.iter().find(|reward| reward.name() == name).unwrap();
        let (verdicts, _) = block_on(reward.score(&episodes)).unwrap();
        let row = |verdict: &Verdict| match verdict {
            Verdict::Scored { total, components } => {
                assert_eq!(components.len(), 3);
                Some(((total * 1e6).round() / 1e6, (components[0].1 * 1e6).round() / 1e6))
            }
            Verdict::Abstained(_) => None,
        };
        verdicts.iter().map(row).collect()
    };
    assert_eq!(
        scored("mmsearch-reward"),
        [Some((1.0, 1.0)), Some((0.91, 1.0)), Some((0.1, 0.0)), Some((0.1, 0.0)), Some((0.0, 0.0)), None, None]
    );
    assert_eq!(
        scored("f1-reward"),
        [Some((1.0, 1.0)), Some((0.91, 1.0)), Some((0.1, 0.0)), Some((0.64, 0.666667)), Some((0.0, 0.0)), None, None]
    );
}

#[test]
fn a_batch_of_any_size_has_a_verdict_for_each() {
    let plugins = host(&[]).load_dir(&reference()).unwrap();
    let turn = format!("<reason>{}</reason><answer>Lima</answer>", "long ".repeat(200));
    let episodes: Vec<_> = (0..1500).map(|_| episode("Lima", &[&turn])).collect();
    for reward in &plugins.rewards {
        let (verdicts, _) = block_on(reward.score(&episodes)).unwrap();
        assert_eq!(verdicts.len(), 1500);
        assert!(verdicts.iter().all(|v| matches!(v, Verdict::Scored { total, .. } if *total == 1.0)));
        assert!(block_on(reward.score(&[])).unwrap().0.is_empty());
    }
}

#[test]
fn the_filter_drops_and_tags() {
    let plugins = host(&[]).load_dir(&reference()).unwrap();
    let good = FilterInput {
        id: "1".into(),
        question: "What is it?".into(),
        ground_truth: "Chad".into(),
        candidate_answers: vec![],
        data_source: "test".into(),
        images: vec![png(56, 40, [1, 2, 3])],
    };
    let mut broken = png(56, 56, [0; 3]);
    broken.bytes = broken.bytes[..10].into();
    let samples = [
        good.clone(),
        FilterInput { candidate_answers: vec!["TD".into()], images: vec![png(20, 20, [0; 3]); 2], ..good.clone() },
        FilterInput { images: vec![], ..good.clone() },
        FilterInput { ground_truth: " ".into(), ..good.clone() },
        FilterInput { images: vec![png(8, 80, [0; 3])], ..good.clone() },
        FilterInput { images: vec![broken], ..good.clone() },
        FilterInput { question: String::new(), ..good.clone() },
    ];
    let decisions = block_on(plugins.filters[0].filter(&samples)).unwrap().0;
    let keep = |tags: &[&str]| Decision::Keep(tags.iter().map(|tag| tag.to_string()).collect());
    let drop = |reason: &str| Decision::Drop(reason.into());
    assert_eq!(
        decisions,
        [
            keep(&["single-image"]),
            keep(&["multi-image", "candidates"]),
            drop("no image"),
            drop("no answer"),
            drop("image 1 is 8x80, shortest side at least 16"),
            drop("image 1 does not decode"),
            drop("no question"),
        ]
    );
    let many = vec![good; 600];
    assert_eq!(block_on(plugins.filters[0].filter(&many)).unwrap().0.len(), 600);
}

#[test]
fn a_crop_is_enlarged_and_bounded() {
    let plugins = host(&[("image-crop", json!({"side": 100}))]).load_dir(&reference()).unwrap();
    let crop = tool(&plugins, "image-crop");
    assert!(crop.spec().needs_image);
    // The right half is red.
    let pixels = image::RgbImage::from_fn(80, 40, |x, _| if x < 40 { image::Rgb([0, 0, 255]) } else { image::Rgb([255, 0, 0]) });
    let mut bytes = std::io::Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let input = |argument: &str| mmhost_plugins::ToolInput {
        images: vec![mmhost_plugins::ImageBytes { media_type: "image/png".into(), bytes: bytes.get_ref().as_slice().into() }],
        ..query(argument)
    };
    let (parts, _) = block_on(crop.call(&input(r#"{"left": 50, "top": 0, "right": 100, "bottom": 50}"#))).unwrap();
    let [ResultPart::Image(image)] = &parts[..] else { panic!("{parts:?}") };
    let found = image::load_from_memory(&image.bytes).unwrap().to_rgb8();
    assert_eq!(found.dimensions(), (100, 50));
    assert!(found.pixels().all(|pixel| pixel.0 == [255, 0, 0]));
    for argument in [r#"{"left": 60, "top": 0, "right": 50, "bottom": 50}"#, r#"{"left": -1, "top": 0, "right": 50, "bottom": 50}"#, "half"]
    {
        let error = block_on(crop.call(&input(argument))).unwrap_err();
        assert!(matches!(&error, PluginError::Tool { error: ToolError::BadArgument(_), .. }), "{error}");
    }
}

#[test]
fn the_calculator_is_called_as_the_configuration_says() {
    let answer = |config: serde_json::Value, argument: &str| {
        let plugins = host(&[("calculator", config)]).load_dir(&reference()).unwrap();
        let calculator = tool(&plugins, "calculator");
        let parts = block_on(calculator.call(&query(argument))).map(|(parts, _)| flat(&parts)).map_err(|error| error.to_string());
        (calculator.spec().call.clone(), parts)
    };
    let (call, found) = answer(json!({"digits": 3}), "0.1 + 0.2 + 1/3");
    assert_eq!((call, found), (CallForm::Tag("calculate".into()), Ok("≈ 0.633".into())));
    let (call, found) = answer(json!({"call": "json"}), r#"{"expression": "2^10 - 1"}"#);
    assert!(matches!(call, CallForm::Json(_)));
    assert_eq!(found, Ok("1023".into()));
    let refused = host(&[("calculator", json!({"call": "loud"}))]).load_dir(&reference()).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("key `call`: found \"loud\"") && refused.contains("[config-schema]"), "{refused}");
}
