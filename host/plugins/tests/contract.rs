//! Components that were built against version 0.1 of the contract load and work for ever.

mod common;

use common::{block_on, episode, host, png, query};
use mmhost_plugins::{CallView, Decision, FilterInput, ResultPart, RewardInput, Verdict};
use std::path::{Path, PathBuf};

/// Built against version 0.1, and never again.
fn of_0_1() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contract-0.1")
}

#[test]
fn every_kind_of_plugin_of_0_1_does_its_work() {
    let plugins = host(&[]).load_dir(&of_0_1()).unwrap();
    for info in plugins.infos() {
        assert_eq!(info.contract, "0.1.0", "{}", info.name);
    }
    let (tool, reward, filter) = (&plugins.tools[0], &plugins.rewards[0], &plugins.filters[0]);
    block_on(async {
        let (parts, _) = tool.call(&query("capital of Peru")).await.unwrap();
        assert!(matches!(&parts[..], [ResultPart::Text(text)] if text.contains("Lima")), "{parts:?}");

        let calls = vec![CallView { tool: "text-search".into(), argument: "Peru".into(), ok: true, answer: "Lima".into() }];
        let turns = ["<reason>unsure</reason><text_search>Peru</text_search>", "<reason>found</reason><answer>Lima City</answer>"];
        let (verdicts, _) = reward.score(&[RewardInput { calls, ..episode("Lima", &turns) }]).await.unwrap();
        let Verdict::Scored { components, .. } = &verdicts[0] else { panic!("{verdicts:?}") };
        let part = |name: &str| components.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
        assert_eq!((part("f1").or(part("accuracy")), part("penalty"), part("format")), (Some(2.0 / 3.0), Some(0.9), Some(1.0)));

        let sample = |images| FilterInput {
            id: "1".into(),
            question: "Which?".into(),
            ground_truth: "Lima".into(),
            candidate_answers: vec![],
            data_source: "test".into(),
            images,
        };
        let (decisions, _) = filter.filter(&[sample(vec![png(56, 56, [1, 2, 3])]), sample(vec![])]).await.unwrap();
        assert!(matches!(&decisions[..], [Decision::Keep(_), Decision::Drop(_)]), "{decisions:?}");
    });
}
