//! Function URLs: one for a function and one for each of its aliases.
//!
//! A URL is `SCHEME://ID.lambda-url.REGION.localhost:PORT/`. Browsers, curl and systemd's resolver lead a name under
//! `localhost` to this machine, and by its first label the front door finds the function ([`Control::function_url`]).

use serde::Deserialize;
use serde_json::{Map, Value};

use super::lookup::{Found, Page, attempt, fence, random_name, replace};
use super::names::LATEST;
use super::records::{self, FunctionRecord, UrlRecord};
use super::{Control, ControlError, request};
use crate::store::Batch;

/// Characters of an id, as on AWS.
const ID_LENGTH: usize = 32;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UrlConfig {
    function_name: String,
    qualifier: Option<String>,
    auth_type: Option<String>,
    cors: Option<Value>,
    invoke_mode: Option<String>,
    #[serde(flatten)]
    page: Page,
}

impl UrlConfig {
    fn place(&self, control: &Control) -> Result<(String, String), ControlError> {
        control.resolve_place(&self.function_name, self.qualifier.as_deref())
    }
}

/// What an id leads to.
#[derive(Debug, serde::Serialize, Deserialize)]
struct IdRecord {
    function: String,
    qualifier: String,
}

fn id_key(id: &str) -> String {
    format!("url-id/{id}")
}

impl Control {
    /// `CreateFunctionUrlConfig`.
    pub async fn create_function_url_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: UrlConfig = request(members)?;
        let (name, qualifier) = asked.place(self)?;
        let record = attempt!({
            let function = self.url_owner(&name, &qualifier).await?;
            let key = records::qualified_key("url", &name, &qualifier);
            if self.store.get(&key).await?.is_some() {
                let arn = self.url_function_arn(&name, &qualifier);
                let text = format!(
                    "Failed to create function url config for [functionArn = {arn}]. Error message:  FunctionUrlConfig exists for this Lambda function"
                );
                return Err(ControlError::conflict(text));
            }
            let now = now();
            let record = UrlRecord {
                function: name.clone(),
                qualifier: qualifier.clone(),
                url_id: random_name(ID_LENGTH),
                auth_type: asked.auth_type.clone().unwrap_or_else(|| "NONE".into()),
                cors: asked.cors.clone(),
                invoke_mode: asked.invoke_mode.clone().unwrap_or_else(|| "BUFFERED".into()),
                creation_time: now.clone(),
                last_modified: now,
            };
            let leads_to = IdRecord { function: name.clone(), qualifier: qualifier.clone() };
            let mut batch = Batch::default();
            replace(&mut batch, key, None, &record)?;
            replace(&mut batch, id_key(&record.url_id), None, &leads_to)?;
            fence(&mut batch, &function)?;
            self.commit(batch, Some(&name)).await?;
            Ok(record)
        })?;
        let mut shown = self.show_url(&record);
        shown.remove("LastModifiedTime");
        if asked.invoke_mode.is_none() {
            shown.remove("InvokeMode");
        }
        Ok(shown)
    }

    /// `GetFunctionUrlConfig`.
    pub async fn get_function_url_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: UrlConfig = request(members)?;
        let (name, qualifier) = asked.place(self)?;
        let key = records::qualified_key("url", &name, &qualifier);
        let (record, _) = self.read::<UrlRecord>(&key).await?.ok_or_else(no_such_resource)?;
        Ok(self.show_url(&record))
    }

    /// `UpdateFunctionUrlConfig`: what is not given stays.
    pub async fn update_function_url_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: UrlConfig = request(members)?;
        let (name, qualifier) = asked.place(self)?;
        let record = attempt!({
            self.url_owner(&name, &qualifier).await?;
            let key = records::qualified_key("url", &name, &qualifier);
            let found = self.find::<UrlRecord>(&key).await?;
            let Found { mut record, revision } = found.ok_or_else(no_such_resource)?;
            if let Some(auth) = &asked.auth_type {
                record.auth_type.clone_from(auth);
            }
            if asked.cors.is_some() {
                record.cors.clone_from(&asked.cors);
            }
            if let Some(mode) = &asked.invoke_mode {
                record.invoke_mode.clone_from(mode);
            }
            record.last_modified = now();
            let mut batch = Batch::default();
            replace(&mut batch, key, Some(revision), &record)?;
            self.commit(batch, Some(&name)).await?;
            Ok(record)
        })?;
        let mut shown = self.show_url(&record);
        if asked.invoke_mode.is_none() {
            shown.remove("InvokeMode");
        }
        Ok(shown)
    }

    /// `DeleteFunctionUrlConfig`.
    pub async fn delete_function_url_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: UrlConfig = request(members)?;
        let (name, qualifier) = asked.place(self)?;
        let key = records::qualified_key("url", &name, &qualifier);
        attempt!({
            let found = self.find::<UrlRecord>(&key).await?.ok_or_else(no_such_resource)?;
            let batch = Batch {
                expect: vec![(key.clone(), Some(found.revision))],
                delete: vec![key.clone(), id_key(&found.record.url_id)],
                ..Batch::default()
            };
            self.commit(batch, Some(&name)).await
        })?;
        Ok(Map::new())
    }

    /// `ListFunctionUrlConfigs`.
    pub async fn list_function_url_configs(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: UrlConfig = request(members)?;
        let named = self.resolve_name(&asked.function_name, None)?;
        self.url_owner(&named.name, LATEST).await?;
        let prefix = format!("url/{}/", named.name);
        let show = |_: &str, record: &UrlRecord| self.show_url(record);
        self.show_page(&prefix, &asked.page, "FunctionUrlConfigs", show).await
    }

    /// The function URL of an id, the first label of its host name: for requests that come in through it. Whoever keeps
    /// the answer forgets it with a change of its function ([`Control::changes`]).
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn function_url(&self, url_id: &str) -> Result<Option<UrlRecord>, ControlError> {
        let known = url_id.len() == ID_LENGTH
            && url_id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !known {
            return Ok(None);
        }
        let Some((id, _)) = self.read::<IdRecord>(&id_key(url_id)).await? else { return Ok(None) };
        let key = records::qualified_key("url", &id.function, &id.qualifier);
        let found = self.read::<UrlRecord>(&key).await?.map(|(record, _)| record);
        // An id that outlived its function leads nowhere, also where a later function has its name.
        Ok(found.filter(|record| record.url_id == url_id))
    }

    async fn url_owner(
        &self,
        name: &str,
        qualifier: &str,
    ) -> Result<Found<FunctionRecord>, ControlError> {
        let owner = self.find_owner(name, qualifier).await?;
        owner.ok_or_else(|| ControlError::not_found("Function does not exist"))
    }

    fn url_function_arn(&self, name: &str, qualifier: &str) -> String {
        self.settings.function_arn(name, Some(qualifier).filter(|q| *q != LATEST))
    }

    fn show_url(&self, record: &UrlRecord) -> Map<String, Value> {
        let (scheme, port) = self.hooks.url_base();
        let url = format!(
            "{scheme}://{}.lambda-url.{}.localhost:{port}/",
            record.url_id, self.settings.region
        );
        let mut shown = Map::new();
        for (key, value) in [
            ("FunctionUrl", url),
            ("FunctionArn", self.url_function_arn(&record.function, &record.qualifier)),
            ("AuthType", record.auth_type.clone()),
            ("CreationTime", record.creation_time.clone()),
            ("LastModifiedTime", record.last_modified.clone()),
            ("InvokeMode", record.invoke_mode.clone()),
        ] {
            shown.insert(key.into(), value.into());
        }
        if let Some(cors) = &record.cors {
            shown.insert("Cors".into(), cors.clone());
        }
        shown
    }
}

fn no_such_resource() -> ControlError {
    ControlError::not_found("The resource you requested does not exist.")
}

/// Now, as AWS prints it for function URLs: `2026-01-31T12:00:00.123456Z`.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::lookup::tests::{Bench, error, function_arn, members};
    use super::*;
    use crate::control::ErrorKind;

    async fn bench() -> Bench {
        let bench = Bench::new().await;
        bench.function("f").await;
        bench.version("f", 1).await;
        bench.alias("f", "live", "1").await;
        bench
    }

    fn of(name: &str, qualifier: Option<&str>, rest: Value) -> Map<String, Value> {
        let mut asked = members(json!({ "FunctionName": name, "Qualifier": qualifier }));
        asked.extend(members(rest));
        asked
    }

    #[tokio::test]
    async fn a_url_lives_as_recorded() {
        let bench = bench().await;
        let control = &bench.control;
        control.hooks.set_url_base("http", 1234);
        let none = json!({ "AuthType": "NONE" });
        let made = control.create_function_url_config(of("f", None, none.clone())).await.unwrap();
        let keys: Vec<&str> = made.keys().map(String::as_str).collect();
        assert_eq!(keys, ["AuthType", "CreationTime", "FunctionArn", "FunctionUrl"]);
        assert_eq!(made["FunctionArn"], function_arn("f"));
        let url = made["FunctionUrl"].as_str().unwrap();
        let id = url.strip_prefix("http://").unwrap().split('.').next().unwrap();
        assert_eq!(url, format!("http://{id}.lambda-url.us-east-1.localhost:1234/"));
        assert_eq!(id.len(), 32);
        let again = control.create_function_url_config(of("f", None, none.clone())).await;
        assert_eq!(
            error(again),
            (
                ErrorKind::ResourceConflict,
                format!(
                    "Failed to create function url config for [functionArn = {}]. Error message:  FunctionUrlConfig exists for this Lambda function",
                    function_arn("f")
                )
            )
        );
        let cors = json!({ "AllowOrigins": ["*"], "MaxAge": 10 });
        let changed = json!({ "AuthType": "AWS_IAM", "Cors": cors });
        let updated = control.update_function_url_config(of("f", None, changed)).await.unwrap();
        assert_eq!(updated["AuthType"], "AWS_IAM");
        let got = control.get_function_url_config(of("f", None, json!({}))).await.unwrap();
        assert_eq!((&got["Cors"], &got["InvokeMode"]), (&cors, &json!("BUFFERED")));
        assert_eq!(got["FunctionUrl"], made["FunctionUrl"]);
        assert_eq!(got["CreationTime"], made["CreationTime"]);
        assert_eq!(got["LastModifiedTime"], updated["LastModifiedTime"]);
        let found = control.function_url(id).await.unwrap().unwrap();
        assert_eq!((found.function.as_str(), found.qualifier.as_str()), ("f", "$LATEST"));
        assert_eq!(found.auth_type, "AWS_IAM");
        let live = control.create_function_url_config(of("f:live", Some("live"), none)).await;
        assert_eq!(live.unwrap()["FunctionArn"], function_arn("f:live"));
        let page = control
            .list_function_url_configs(of("f", None, json!({ "MaxItems": 1 })))
            .await
            .unwrap();
        assert_eq!(page["FunctionUrlConfigs"].as_array().unwrap().len(), 1);
        let rest = json!({ "MaxItems": 1, "Marker": page["NextMarker"] });
        let page = control.list_function_url_configs(of("f", None, rest)).await.unwrap();
        assert_eq!(page["FunctionUrlConfigs"][0]["FunctionArn"], function_arn("f:live"));
        assert!(page.get("NextMarker").is_none());
        control.delete_function_url_config(of("f", None, json!({}))).await.unwrap();
        assert!(control.function_url(id).await.unwrap().is_none());
        assert!(control.get_function_url_config(of("f", Some("live"), json!({}))).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_as_recorded() {
        let bench = bench().await;
        let control = &bench.control;
        let function = "Function does not exist";
        let resource = "The resource you requested does not exist.";
        let mismatch =
            "The derived qualifier from the function name does not match the specified qualifier.";
        let absent = function_arn("absent");
        for (name, qualifier, create, get) in [
            ("absent", None, function, resource),
            (absent.as_str(), None, function, resource),
            ("f", Some("no"), function, resource),
            ("f:no", Some("live"), mismatch, mismatch),
        ] {
            let asked = || of(name, qualifier, json!({ "AuthType": "NONE" }));
            let texts = [
                error(control.create_function_url_config(asked()).await).1,
                error(control.update_function_url_config(asked()).await).1,
                error(control.get_function_url_config(asked()).await).1,
                error(control.delete_function_url_config(asked()).await).1,
            ];
            assert_eq!(texts, [create, create, get, get], "{name} {qualifier:?}");
        }
        let asked = || of("f", None, json!({}));
        assert_eq!(error(control.update_function_url_config(asked()).await).1, resource);
        assert_eq!(error(control.delete_function_url_config(asked()).await).1, resource);
        let listed = control.list_function_url_configs(of("absent", None, json!({}))).await;
        assert_eq!(error(listed).1, function);
        let none = control.list_function_url_configs(asked()).await.unwrap();
        assert_eq!(none, members(json!({ "FunctionUrlConfigs": [] })));
        for id in ["", "x", "../../function/f", &"a".repeat(32)] {
            assert!(control.function_url(id).await.unwrap().is_none(), "{id}");
        }
    }
}
