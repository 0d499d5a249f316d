//! MLflow's REST interface, version 2.0.

use std::path::PathBuf;

use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Client, Fault};
use crate::queue::Service;
use crate::tracker::{RunInfo, read_state, write_state};
use crate::{Ended, Row, now_ms};

/// What one `log-batch` takes: 1,000 entities, of which 100 are parameters.
const METRICS: usize = 1000;
const PARAMS: usize = 100;
/// Characters of a parameter that every version of the server takes.
const PARAM: usize = 500;

/// What `RUN/track/mlflow.json` holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    run_id: String,
    last_step: Option<usize>,
}

pub(crate) struct Mlflow {
    client: Client,
    experiment: String,
    info: RunInfo,
    path: PathBuf,
    state: State,
    /// A request may have arrived whose answer did not.
    unsure: bool,
}

impl Mlflow {
    pub fn new(client: Client, experiment: String, info: RunInfo) -> Self {
        let path = info.dir.join("track").join("mlflow.json");
        let state = read_state(&path).unwrap_or_default();
        Self { client, experiment, info, path, state, unsure: false }
    }

    async fn call(&self, path: &[&str], body: Value) -> Result<Value, Fault> {
        let full = [&["api", "2.0", "mlflow"], path].concat();
        self.client.post(self.client.url(&full, &[]), &body).await
    }

    async fn experiment_id(&self) -> Result<String, Fault> {
        let path = ["api", "2.0", "mlflow", "experiments", "get-by-name"];
        let by_name = || self.client.get(self.client.url(&path, &[("experiment_name", &self.experiment)]));
        let found = match by_name().await {
            Err(fault) if fault.is(StatusCode::NOT_FOUND) => {
                match self.call(&["experiments", "create"], json!({"name": self.experiment})).await {
                    Ok(made) => return id(&made["experiment_id"], "experiment_id"),
                    // Someone else made it in between.
                    Err(fault) if fault.is(StatusCode::BAD_REQUEST) => by_name().await.map_err(|_| fault)?,
                    Err(fault) => return Err(fault),
                }
            }
            other => other?,
        };
        id(&found["experiment"]["experiment_id"], "experiment.experiment_id")
    }

    async fn create(&mut self) -> Result<(), Fault> {
        let experiment = self.experiment_id().await?;
        let tag = |key: &str, value: &str| json!({"key": key, "value": value});
        let tags = [tag("mlflow.source.name", "mmhost"), tag("mlflow.source.type", "LOCAL")];
        let body = json!({"experiment_id": experiment, "run_name": self.info.name, "start_time": now_ms(), "tags": tags});
        let made = self.call(&["runs", "create"], body).await?;
        self.state = State { run_id: id(&made["run"]["info"]["run_id"], "run.info.run_id")?, last_step: None };
        write_state(&self.path, &self.state);
        Ok(())
    }

    /// Asks for the last step that the server has, which may be more than it has acknowledged.
    async fn learn_last_step(&mut self) -> Result<(), Fault> {
        let url = self.client.url(&["api", "2.0", "mlflow", "runs", "get"], &[("run_id", &self.state.run_id)]);
        let found = self.client.get(url).await?;
        let metrics = found["run"]["data"]["metrics"].as_array();
        let steps = metrics
            .into_iter()
            .flatten()
            .filter_map(|metric| Some(metric["step"].as_i64().or_else(|| metric["step"].as_str()?.parse().ok())? as usize));
        self.state.last_step = steps.max().max(self.state.last_step);
        self.unsure = false;
        Ok(())
    }

    async fn log_params(&self) -> Result<(), Fault> {
        let params: Vec<Value> = self
            .info
            .params
            .iter()
            .map(|(key, value)| json!({"key": name(key), "value": value.chars().take(PARAM).collect::<String>()}))
            .collect();
        for part in params.chunks(PARAMS) {
            self.call(&["runs", "log-batch"], json!({"run_id": self.state.run_id, "params": part})).await?;
        }
        Ok(())
    }
}

impl Service for Mlflow {
    const NAME: &'static str = "MLflow";

    async fn open(&mut self) -> Result<Option<usize>, Fault> {
        if !self.state.run_id.is_empty() {
            match self.call(&["runs", "update"], json!({"run_id": self.state.run_id, "status": "RUNNING"})).await {
                Ok(_) => self.learn_last_step().await?,
                // It was removed there.
                Err(fault) if fault.is(StatusCode::NOT_FOUND) => self.state = State::default(),
                Err(fault) => return Err(fault),
            }
        }
        if self.state.run_id.is_empty() {
            self.create().await?;
        }
        // Again after a failure in between, or a resume: equal parameters may be logged twice.
        self.log_params().await?;
        Ok(self.state.last_step)
    }

    async fn send(&mut self, rows: &[Row]) -> Result<(), Fault> {
        if self.unsure {
            self.learn_last_step().await?;
        }
        // Whole rows in a request, so that a step is there or is not.
        let mut rest = &rows[rows.partition_point(|row| Some(row.step) <= self.state.last_step)..];
        while !rest.is_empty() {
            let sizes = rest.iter().scan(0, |sum, row| {
                *sum += row.values.len();
                Some(*sum)
            });
            let fitting = sizes.take_while(|sum| *sum <= METRICS).count().max(1);
            let (part, later) = rest.split_at(fitting);
            let metrics = part.iter().flat_map(|row| row.values.iter().map(|(key, value)| metric(row, key, *value)));
            let metrics: Vec<Value> = metrics.collect();
            self.unsure = true;
            for some in metrics.chunks(METRICS) {
                self.call(&["runs", "log-batch"], json!({"run_id": self.state.run_id, "metrics": some})).await?;
            }
            self.unsure = false;
            self.state.last_step = part.last().map(|row| row.step).or(self.state.last_step);
            rest = later;
        }
        write_state(&self.path, &self.state);
        Ok(())
    }

    async fn close(&mut self, ended: Ended) -> Result<(), Fault> {
        let status = match ended {
            Ended::Finished => "FINISHED",
            Ended::Failed => "FAILED",
        };
        self.call(&["runs", "update"], json!({"run_id": self.state.run_id, "status": status, "end_time": now_ms()})).await.map(drop)
    }
}

fn metric(row: &Row, key: &str, value: f64) -> Value {
    json!({"key": name(key), "value": value, "timestamp": row.time_ms, "step": row.step})
}

/// A name as MLflow takes it.
fn name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "_-. /".contains(c) { c } else { '_' }).take(250).collect()
}

fn id(value: &Value, field: &str) -> Result<String, Fault> {
    let missing = || Fault::Never { why: format!("its answer has no {field}; is it an MLflow server?"), status: None };
    value.as_str().filter(|id| !id.is_empty()).map(str::to_owned).ok_or_else(missing)
}
