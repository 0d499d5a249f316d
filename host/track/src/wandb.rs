//! Weights & Biases: a GraphQL mutation makes the run, its `file_stream` takes lines of history.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::{Client, Fault};
use crate::queue::Service;
use crate::tracker::{RunInfo, read_state, write_state};
use crate::{Ended, Row, now_ms};

const UPSERT: &str = "mutation UpsertBucket($name: String!, $project: String!, $entity: String, $displayName: String, $config: JSONString, \
                      $state: String) { upsertBucket(input: {name: $name, modelName: $project, entityName: $entity, displayName: \
                      $displayName, config: $config, state: $state}) { bucket { name historyLineCount project { name entity { name } } } \
                      inserted } }";

/// What `RUN/track/wandb.json` holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// The run's id there.
    run: String,
    last_step: Option<usize>,
    /// Lines of history that were sent.
    lines: usize,
    /// When the run began, in milliseconds since 1970.
    begun_ms: u64,
}

pub(crate) struct Wandb {
    client: Client,
    project: String,
    entity: Option<String>,
    info: RunInfo,
    path: PathBuf,
    state: State,
    /// The last value of every figure.
    summary: Map<String, Value>,
    /// Lines that arrived though their acknowledgement did not: the first of those that would be sent next.
    arrived: usize,
    /// Entity and project as the server names them.
    place: [String; 2],
}

impl Wandb {
    pub fn new(client: Client, project: String, entity: Option<String>, info: RunInfo) -> Self {
        let path = info.dir.join("track").join("wandb.json");
        let state = read_state(&path).unwrap_or_else(|| State { run: new_id(&info), begun_ms: now_ms(), ..State::default() });
        let place = [entity.clone().unwrap_or_default(), project.clone()];
        Self { client, project, entity, info, path, state, summary: Map::new(), arrived: 0, place }
    }

    async fn stream(&self, body: &Value) -> Result<(), Fault> {
        let [entity, project] = &self.place;
        let url = self.client.url(&["files", entity, project, &self.state.run, "file_stream"], &[]);
        self.client.post(url, body).await.map(drop)
    }
}

impl Service for Wandb {
    const NAME: &'static str = "W&B";

    async fn open(&mut self) -> Result<Option<usize>, Fault> {
        // Kept before it is used, so that a kill in between does not make a second run there.
        write_state(&self.path, &self.state);
        let config: Map<String, Value> = self.info.params.iter().map(|(key, value)| (key.clone(), json!({"value": value}))).collect();
        let variables = json!({
            "name": self.state.run, "project": self.project, "entity": self.entity, "displayName": self.info.name,
            "config": Value::Object(config).to_string(), "state": "running",
        });
        let answer = self.client.post(self.client.url(&["graphql"], &[]), &json!({"query": UPSERT, "variables": variables})).await?;
        let bucket = &answer["data"]["upsertBucket"]["bucket"];
        let said = answer["errors"][0]["message"].as_str().unwrap_or("is it a W&B server?");
        let missing = |field: &str| Fault::Never { why: format!("its answer has no {field}: {said}"), status: None };
        let project = &bucket["project"];
        let text = |value: &Value, field: &str| value.as_str().map(str::to_owned).ok_or_else(|| missing(field));
        self.place = [text(&project["entity"]["name"], "bucket.project.entity.name")?, text(&project["name"], "bucket.project.name")?];
        self.arrived = bucket["historyLineCount"].as_u64().map_or(0, |lines| (lines as usize).saturating_sub(self.state.lines));
        Ok(self.state.last_step)
    }

    async fn send(&mut self, rows: &[Row]) -> Result<(), Fault> {
        let known = self.arrived.min(rows.len());
        let mut lines = Vec::with_capacity(rows.len());
        for row in &rows[known..] {
            let values = row.values.iter().map(|(key, value)| (key.clone(), json!(value)));
            let mut line: Map<String, Value> = values.collect();
            line.insert("_step".into(), json!(row.step));
            line.insert("_timestamp".into(), json!(row.time_ms as f64 / 1e3));
            line.insert("_runtime".into(), json!(row.time_ms.saturating_sub(self.state.begun_ms) as f64 / 1e3));
            self.summary.extend(line.clone());
            lines.push(Value::Object(line).to_string());
        }
        let files = json!({
            "wandb-history.jsonl": {"offset": self.state.lines + known, "content": lines},
            "wandb-summary.json": {"offset": 0, "content": [Value::Object(self.summary.clone()).to_string()]},
        });
        self.stream(&json!({"files": files, "dropped": 0})).await?;
        self.arrived -= known;
        self.state.lines += rows.len();
        self.state.last_step = rows.last().map(|row| row.step).or(self.state.last_step);
        write_state(&self.path, &self.state);
        Ok(())
    }

    async fn close(&mut self, ended: Ended) -> Result<(), Fault> {
        let exit = match ended {
            Ended::Finished => 0,
            Ended::Failed => 1,
        };
        self.stream(&json!({"complete": true, "exitcode": exit, "dropped": 0, "uploaded": []})).await
    }
}

/// An id that no other run of the project has: run directory, time and process, hashed.
fn new_id(info: &RunInfo) -> String {
    let seed = format!("{}\0{}\0{}", info.dir.display(), now_ms(), std::process::id());
    let hash = |salt: &[u8]| crc32c::crc32c_append(crc32c::crc32c(salt), seed.as_bytes());
    format!("{:08x}{:08x}", hash(b"first"), hash(b"second"))
}
