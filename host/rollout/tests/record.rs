//! Storing, reading, scoring and counting episodes.

mod common;

use common::*;
use mmhost_plugins::{PluginError, RewardInput, Verdict};
use mmhost_rollout::{Episode, EpisodeWriter, Error, Reward, SCORE_CHUNK, Workflow, attach_images, read_dir, read_episodes, score};
use std::fs;
use std::io::Write;
use std::sync::Arc;

/// Two groups of four: half search, half answer at once.
async fn episodes() -> Vec<Episode> {
    let engine = Arc::new(ScriptedEngine::new(|ask| {
        Act::Say(reason(match (ask.generation, ask.rollout % 2) {
            (0, 0) => IMAGE_CALL,
            (1, _) | (0, _) => "<answer>N'Djamena</answer>",
            _ => "nothing",
        }))
    }));
    let tasks = [task("first?"), task("second?")];
    let groups = roller(&engine, &usual_tools(), options()).run(&tasks, 4, Workflow::OnDemand, 1.0, 0, "step=1").await.unwrap();
    groups.into_iter().flatten().collect()
}

/// Scores by the answer; fails or misbehaves on demand.
enum Judge {
    Exact,
    Fails,
    Short,
    NotANumber,
    /// Fails on the last, short batch, and masks whole groups or not.
    FailsAtTheEnd(bool),
}

#[async_trait::async_trait]
impl Reward for Judge {
    async fn verdicts(&self, episodes: &[RewardInput]) -> Result<Vec<Verdict>, PluginError> {
        let scored = |total: f64| Verdict::Scored { total, components: vec![("accuracy".into(), total), ("format".into(), 1.0)] };
        match self {
            Judge::Exact => Ok(episodes
                .iter()
                .map(|episode| scored(f64::from(u8::from(episode.turns.last().unwrap().contains(&episode.ground_truth)))))
                .collect()),
            Judge::FailsAtTheEnd(_) if episodes.len() == SCORE_CHUNK => Ok(vec![scored(0.5); episodes.len()]),
            Judge::Fails | Judge::FailsAtTheEnd(_) => Err(plugin_error()),
            Judge::Short => Ok(vec![scored(1.0)]),
            Judge::NotANumber => Ok(vec![scored(f64::NAN); episodes.len()]),
        }
    }

    fn drops_groups(&self) -> bool {
        matches!(self, Judge::FailsAtTheEnd(true))
    }
}

async fn judge(reward: &Judge, episodes: &mut [Episode]) {
    score(reward, &mut episodes.iter_mut().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn episodes_read_back_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut episodes = episodes().await;
    judge(&Judge::Exact, &mut episodes).await;
    let mut writer = EpisodeWriter::create(dir.path(), "step-000001").unwrap();
    for episode in &episodes {
        writer.write(episode).unwrap();
    }
    writer.sync().unwrap();
    assert_eq!(fs::read_dir(dir.path().join("images")).unwrap().count(), 2, "each image once");

    let mut stored = read_episodes(writer.path()).unwrap();
    assert!(stored.truncated.is_empty());
    for (read, written) in stored.episodes.iter().zip(&episodes) {
        assert!(serde_json::to_value(read).unwrap() == serde_json::to_value(written).unwrap(), "{}", written.id);
        assert_eq!(read.logprobs, written.logprobs);
        assert!(matches!(read.training_view(), Err(Error::Invariant { .. })), "no training without the images");
    }
    attach_images(dir.path(), &mut stored.episodes, &processor()).unwrap();
    assert_eq!(stored.episodes[0].images, episodes[0].images);
    assert_eq!(stored.episodes[0].training_view().unwrap().reward, Some(1.0));

    // Stored episodes are scored again, without model or images.
    let mut again = read_dir(dir.path()).unwrap().episodes;
    again.iter_mut().for_each(|episode| episode.reward = None);
    judge(&Judge::Exact, &mut again).await;
    assert!(again.iter().zip(&episodes).all(|(a, b)| a.reward == b.reward));
}

#[tokio::test]
async fn a_truncated_last_line_is_named_and_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let episodes = episodes().await;
    let mut writer = EpisodeWriter::create(dir.path(), "a").unwrap();
    episodes[..2].iter().for_each(|episode| writer.write(episode).unwrap());
    writer.sync().unwrap();
    let path = writer.path().to_owned();
    drop(writer);
    let torn = &serde_json::to_vec(&episodes[2]).unwrap()[..100];
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(torn).unwrap();

    let stored = read_episodes(&path).unwrap();
    assert_eq!(stored.episodes.len(), 2);
    assert_eq!((stored.truncated[0].line, stored.truncated[0].bytes), (3, 100));
    assert!(stored.truncated[0].to_string().contains("a.jsonl line 3 is truncated (100 bytes)"));

    let mut writer = EpisodeWriter::append(dir.path(), "a").unwrap();
    writer.write(&episodes[3]).unwrap();
    writer.sync().unwrap();
    let stored = read_episodes(&path).unwrap();
    assert!(stored.truncated.is_empty());
    assert_eq!(stored.episodes.iter().map(|e| &e.id).collect::<Vec<_>>(), [&episodes[0].id, &episodes[1].id, &episodes[3].id]);
    drop(EpisodeWriter::create(dir.path(), "a").unwrap());
    assert!(read_episodes(&path).unwrap().episodes.is_empty(), "`create` begins anew");
}

#[tokio::test]
async fn corrupt_lines_and_images_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("b.jsonl"), "\n{\"id\": 3}\n").unwrap();
    let error = read_dir(dir.path()).unwrap_err().to_string();
    assert!(error.contains("b.jsonl line 2"), "{error}");
    fs::remove_file(dir.path().join("b.jsonl")).unwrap();

    let mut episodes = episodes().await;
    let mut writer = EpisodeWriter::create(dir.path(), "c").unwrap();
    writer.write(&episodes[0]).unwrap();
    writer.sync().unwrap();
    let digest = episodes[0].image_digests[0].clone();
    let file = dir.path().join(format!("images/{digest}.png"));
    fs::write(&file, b"changed").unwrap();
    let refused = |episodes: &mut [Episode]| attach_images(dir.path(), episodes, &processor()).unwrap_err().to_string();
    assert!(refused(&mut episodes[..1]).contains("digest is another"));
    fs::remove_file(&file).unwrap();
    assert!(refused(&mut episodes[..1]).contains("no such file"));
    episodes[0].image_digests[0] = "../../etc/passwd".into();
    assert!(refused(&mut episodes[..1]).contains("no digest"));
}

#[tokio::test]
async fn a_failed_reward_abstains_and_is_never_zero() {
    let mut all = Vec::new();
    for _ in 0..9 {
        all.extend(episodes().await); // 72 episodes: two batches
    }
    for (reward, needle) in [(Judge::Fails, ""), (Judge::Short, "1 verdicts for"), (Judge::NotANumber, "finite")] {
        judge(&reward, &mut all).await;
        for episode in &all {
            let Some(Verdict::Abstained(reason)) = &episode.reward else { panic!("{:?}", episode.reward) };
            assert!(reason.contains(needle) && !reason.is_empty(), "{reason}");
            assert_eq!(episode.total_reward(), None);
        }
    }
    judge(&Judge::Exact, &mut all).await;
    assert!(all.iter().all(|episode| episode.total_reward() == Some(1.0)));
}

#[tokio::test]
async fn a_failed_reward_masks_its_episodes_or_their_whole_groups() {
    let mut all = Vec::new();
    for _ in 0..9 {
        all.extend(episodes().await);
    }
    // Groups of five, one of which lies across two batches.
    all.truncate(70);
    for (i, episode) in all.iter_mut().enumerate() {
        episode.id = format!("step=1/group={}/rollout={}", i / 5, i % 5);
    }
    for (whole, masked_from) in [(false, SCORE_CHUNK), (true, 60)] {
        judge(&Judge::FailsAtTheEnd(whole), &mut all).await;
        for (i, episode) in all.iter().enumerate() {
            assert_eq!(episode.total_reward().is_none(), i >= masked_from, "{}", episode.id);
        }
    }
}

/// A line as version 0.1.0 writes it: whoever changes the record must go on reading it.
#[test]
fn the_format_of_0_1_0_reads() {
    let line =
        r#"{"id":"step=1/group=0/rollout=2","sample":"s1","category":null,"question":"?","ground_truth":"a","candidate_answers":["b"],
        "workflow":"on-demand","tokens":[5,6,7],"mask":[false,true,true],"logprobs":[-0.5,-1.25],"turns":[{"start":1,"end":3,"text":"x"}],
        "calls":[{"tool":"t","digest":"d","argument":"q","result":"r","ok":true,"elapsed_ms":1.5,"shared":false}],"calls_allowed":2,
        "ending":"over_limit","reward":{"scored":{"total":0.91,"components":[["accuracy",1.0]]}},"image_digests":["00"]}"#
            .replace("\n", "");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("old.jsonl"), format!("{line}\n")).unwrap();
    let episode = &read_dir(dir.path()).unwrap().episodes[0];
    assert_eq!((episode.total_reward(), episode.reward_component("accuracy")), (Some(0.91), Some(1.0)));
    assert_eq!((episode.workflow, episode.ending.name()), (Workflow::OnDemand, "over_limit"));
    assert_eq!((episode.num_sampled(), episode.calls[0].elapsed_ms), (2, 1.5));
}
