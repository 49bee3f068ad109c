//! What becomes of an asynchronous event that fails or succeeds: retries, age, destinations.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::lookup::{Found, Page, attempt, fence, now_seconds, replace};
use super::names::{FunctionName, LATEST};
use super::records::{self, EventInvokeConfig, FunctionRecord};
use super::{Control, ControlError, ErrorKind, answer, request};
use crate::store::Batch;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    function_name: String,
    qualifier: Option<String>,
    maximum_retry_attempts: Option<u32>,
    maximum_event_age_in_seconds: Option<u32>,
    destination_config: Option<Destinations>,
    #[serde(flatten)]
    page: Page,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Destinations {
    on_success: Option<Destination>,
    on_failure: Option<Destination>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Destination {
    destination: Option<String>,
}

impl Config {
    fn place(&self, control: &Control) -> Result<(String, String), ControlError> {
        control.resolve_place(&self.function_name, self.qualifier.as_deref())
    }
}

impl Destination {
    /// An empty ARN is none.
    fn arn(this: Option<&Self>) -> Option<&str> {
        this?.destination.as_deref().filter(|arn| !arn.is_empty())
    }
}

impl Destinations {
    /// As AWS writes it in its error.
    fn shown(&self) -> String {
        let side = |name: &str, side: &Option<Destination>| {
            side.as_ref().map_or_else(
                || "null".into(),
                |d| format!("{name}(destination={})", d.destination.as_deref().unwrap_or("null")),
            )
        };
        format!(
            "DestinationConfig(onSuccess={}, onFailure={})",
            side("OnSuccess", &self.on_success),
            side("OnFailure", &self.on_failure)
        )
    }
}

impl Control {
    /// `PutFunctionEventInvokeConfig`: replaces the configuration.
    pub async fn put_function_event_invoke_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Config = request(members)?;
        let (name, qualifier) = asked.place(self)?;
        something_asked(&asked)?;
        let record = attempt!({
            let function = self.function_with(&name, &qualifier).await?;
            self.check_destinations(&name, asked.destination_config.as_ref()).await?;
            let to = asked.destination_config.as_ref();
            let record = EventInvokeConfig {
                maximum_retry_attempts: asked.maximum_retry_attempts,
                maximum_event_age_s: asked.maximum_event_age_in_seconds,
                on_success: Destination::arn(to.and_then(|to| to.on_success.as_ref()))
                    .map(str::to_owned),
                on_failure: Destination::arn(to.and_then(|to| to.on_failure.as_ref()))
                    .map(str::to_owned),
                last_modified: now_seconds(),
            };
            let mut batch = Batch::default();
            let key = records::qualified_key("invoke-config", &name, &qualifier);
            batch.put.push((key, super::encode(&record)?));
            fence(&mut batch, &function)?;
            self.commit(batch, Some(&name)).await?;
            Ok(record)
        })?;
        answer(self.show_invoke_config(&name, &qualifier, &record))
    }

    /// `UpdateFunctionEventInvokeConfig`: what is not given stays.
    pub async fn update_function_event_invoke_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Config = request(members)?;
        let (name, qualifier) = asked.place(self)?;
        something_asked(&asked)?;
        let record = attempt!({
            let function = self.function_with(&name, &qualifier).await?;
            let key = records::qualified_key("invoke-config", &name, &qualifier);
            let found = self.find::<EventInvokeConfig>(&key).await?;
            let Found { mut record, revision } =
                found.ok_or_else(|| self.no_invoke_config(&name, &qualifier))?;
            self.check_destinations(&name, asked.destination_config.as_ref()).await?;
            if asked.maximum_retry_attempts.is_some() {
                record.maximum_retry_attempts = asked.maximum_retry_attempts;
            }
            if asked.maximum_event_age_in_seconds.is_some() {
                record.maximum_event_age_s = asked.maximum_event_age_in_seconds;
            }
            if let Some(to) = &asked.destination_config {
                if to.on_success.is_some() {
                    record.on_success = Destination::arn(to.on_success.as_ref()).map(str::to_owned);
                }
                if to.on_failure.is_some() {
                    record.on_failure = Destination::arn(to.on_failure.as_ref()).map(str::to_owned);
                }
            }
            record.last_modified = now_seconds();
            let mut batch = Batch::default();
            replace(&mut batch, key, Some(revision), &record)?;
            fence(&mut batch, &function)?;
            self.commit(batch, Some(&name)).await?;
            Ok(record)
        })?;
        answer(self.show_invoke_config(&name, &qualifier, &record))
    }

    /// `GetFunctionEventInvokeConfig`.
    pub async fn get_function_event_invoke_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Config = request(members)?;
        let (name, qualifier) = asked.place(self)?;
        let key = records::qualified_key("invoke-config", &name, &qualifier);
        let found = self.read::<EventInvokeConfig>(&key).await?;
        let (record, _) = found.ok_or_else(|| self.no_invoke_config(&name, &qualifier))?;
        answer(self.show_invoke_config(&name, &qualifier, &record))
    }

    /// `DeleteFunctionEventInvokeConfig`.
    pub async fn delete_function_event_invoke_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Config = request(members)?;
        let (name, qualifier) = asked.place(self)?;
        let key = records::qualified_key("invoke-config", &name, &qualifier);
        attempt!({
            let found = self.store.get(&key).await?;
            let entry = found.ok_or_else(|| self.no_invoke_config(&name, &qualifier))?;
            let batch = Batch {
                expect: vec![(key.clone(), Some(entry.revision))],
                delete: vec![key.clone()],
                ..Batch::default()
            };
            self.commit(batch, Some(&name)).await
        })?;
        Ok(Map::new())
    }

    /// `ListFunctionEventInvokeConfigs`.
    pub async fn list_function_event_invoke_configs(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Config = request(members)?;
        let named = self.resolve_name(&asked.function_name, None)?;
        if self.find_function(&named.name).await?.is_none() {
            return Err(ControlError::not_found("The function doesn't exist."));
        }
        let prefix = format!("invoke-config/{}/", named.name);
        self.show_page(&prefix, &asked.page, "FunctionEventInvokeConfigs", |qualifier, record| {
            self.show_invoke_config(&named.name, qualifier, record)
        })
        .await
    }

    async fn function_with(
        &self,
        name: &str,
        qualifier: &str,
    ) -> Result<Found<FunctionRecord>, ControlError> {
        let owner = self.find_owner(name, qualifier).await?;
        owner.ok_or_else(|| ControlError::not_found("The function doesn't exist."))
    }

    fn no_invoke_config(&self, name: &str, qualifier: &str) -> ControlError {
        let arn = self.settings.function_arn(name, Some(qualifier));
        ControlError::not_found(format!("The function {arn} doesn't have an EventInvokeConfig"))
    }

    /// Destinations are standard queues and topics, and other functions of this account.
    async fn check_destinations(
        &self,
        function: &str,
        config: Option<&Destinations>,
    ) -> Result<(), ControlError> {
        let Some(config) = config else { return Ok(()) };
        for side in [&config.on_success, &config.on_failure] {
            let Some(arn) = Destination::arn(side.as_ref()) else { continue };
            let invalid =
                || ControlError::invalid(format!("The destination ARN {arn} is invalid."));
            let parts: Vec<&str> = arn.splitn(6, ':').collect();
            let ["arn", _, service, region, account, resource] = parts[..] else {
                return Err(invalid());
            };
            match service {
                "lambda" => {
                    if !resource.starts_with("function:")
                        || region != self.settings.region
                        || account != self.settings.account
                    {
                        return Err(invalid());
                    }
                    let to = FunctionName::parse(arn, None)?;
                    if to.name == function {
                        let text = "You can't specify the function as a destination for itself.";
                        return Err(ControlError::invalid(text));
                    }
                    let qualifier = to.qualifier.as_deref().unwrap_or(LATEST);
                    if let Err(error) = self.function_with(&to.name, qualifier).await {
                        let missing = error.kind == ErrorKind::ResourceNotFound;
                        return Err(if missing { invalid() } else { error });
                    }
                }
                "sqs" | "sns" => {
                    let whole = !region.is_empty() && !account.is_empty() && !resource.is_empty();
                    // Their order would be lost: AWS takes standard queues and topics alone.
                    if !whole || resource.contains(':') || resource.ends_with(".fifo") {
                        return Err(invalid());
                    }
                }
                "events" | "s3" => {
                    let text = format!(
                        "Destinations of the service {service} are not supported by Kennel: {arn}. Use an SQS queue, an SNS topic or a Lambda function."
                    );
                    return Err(ControlError::invalid(text));
                }
                _ => {
                    let text =
                        format!("The provided destination config {} is invalid.", config.shown());
                    return Err(ControlError::invalid(text));
                }
            }
        }
        Ok(())
    }

    fn show_invoke_config(&self, name: &str, qualifier: &str, record: &EventInvokeConfig) -> Value {
        let side = |arn: &Option<String>| {
            arn.as_ref().map_or_else(|| json!({}), |arn| json!({ "Destination": arn }))
        };
        let mut shown = json!({
            "LastModified": record.last_modified,
            "FunctionArn": self.settings.function_arn(name, Some(qualifier)),
            "DestinationConfig": {
                "OnSuccess": side(&record.on_success),
                "OnFailure": side(&record.on_failure),
            },
        });
        if let Some(attempts) = record.maximum_retry_attempts {
            shown["MaximumRetryAttempts"] = attempts.into();
        }
        if let Some(age) = record.maximum_event_age_s {
            shown["MaximumEventAgeInSeconds"] = age.into();
        }
        shown
    }
}

fn something_asked(asked: &Config) -> Result<(), ControlError> {
    if asked.maximum_retry_attempts.is_none()
        && asked.maximum_event_age_in_seconds.is_none()
        && asked.destination_config.is_none()
    {
        let text = "You must specify at least one of error handling or destination setting.";
        return Err(ControlError::invalid(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
