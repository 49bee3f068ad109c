//! The layers of a function's version: found by their ARNs, and measured together with its code.

use serde::Deserialize;

use super::records::{CodeRef, LayerRef, VersionRecord};
use super::{Control, ControlError};
use crate::package::AWS_UNZIPPED_BYTES;

/// AWS's limit on a function's layers.
const LAYERS: usize = 5;

/// What is read of a layer version's record.
#[derive(Debug, Deserialize)]
struct LayerVersion {
    arn: String,
    code: CodeRef,
}

impl Control {
    /// The layers of a version, looked up again.
    pub(super) async fn layer_refs_of(
        &self,
        version: &VersionRecord,
    ) -> Result<Vec<LayerRef>, ControlError> {
        let arns: Vec<String> = version.layers.iter().map(|layer| layer.arn.clone()).collect();
        self.layer_refs(&arns).await
    }

    /// # Errors
    /// AWS's, for more than five, two of one layer, and one that is not there.
    pub(super) async fn layer_refs(&self, arns: &[String]) -> Result<Vec<LayerRef>, ControlError> {
        if arns.len() > LAYERS {
            let text = format!("Cannot reference more than {LAYERS} layers.");
            return Err(ControlError::invalid(text));
        }
        let mut found: Vec<LayerRef> = Vec::with_capacity(arns.len());
        for arn in arns {
            let layer = |arn: &str| arn.rsplit_once(':').map(|(layer, _)| layer.to_owned());
            // Also the same version twice: AWS words it so.
            if let Some(other) = found.iter().find(|other| layer(&other.arn) == layer(arn)) {
                return Err(ControlError::invalid(format!(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. {} and {arn} are versions of the same layer.",
                    other.arn
                )));
            }
            found.push(self.layer_ref(arn).await?);
        }
        Ok(found)
    }

    /// The layer version that an ARN names.
    ///
    /// # Errors
    /// AWS's, for one of another region or account, and for one that is not there.
    pub(super) async fn layer_ref(&self, arn: &str) -> Result<LayerRef, ControlError> {
        let parts: Vec<&str> = arn.split(':').collect();
        let missing = || ControlError::invalid(format!("Layer version {arn} does not exist."));
        let [_, _, "lambda", region, account, "layer", name, version] = parts[..] else {
            return Err(missing());
        };
        if region != self.settings.region {
            return Err(ControlError::invalid(format!(
                "Layers are not in the same region as the function. Layers are expected to be in region {}.",
                self.settings.region
            )));
        }
        let (Ok(number), true) = (version.parse::<u64>(), account == self.settings.account) else {
            return Err(missing());
        };
        let key = format!("layer-version/{name}/{number:020}");
        let (record, _) = self.read::<LayerVersion>(&key).await?.ok_or_else(missing)?;
        Ok(LayerRef { arn: record.arn, code: record.code })
    }
}

/// # Errors
/// AWS's, for code and layers that are too large together.
pub(super) fn check_unzipped(version: &VersionRecord) -> Result<(), ControlError> {
    if version.layers.is_empty() {
        return Ok(()); // the code alone was measured when it was unpacked
    }
    let layers = version.layers.iter().map(|layer| layer.code.unzipped_bytes);
    let total = layers.fold(version.code.unzipped_bytes, u64::saturating_add);
    if total <= AWS_UNZIPPED_BYTES {
        return Ok(());
    }
    Err(ControlError::invalid(format!(
        "Function code combined with layers exceeds the maximum allowed size of {AWS_UNZIPPED_BYTES} bytes. The actual size is {total} bytes."
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::configuration::begun;
    use super::super::replay::{Kit, zip_of};
    use super::*;

    #[tokio::test]
    async fn layers_are_looked_up_and_counted() {
        let kit = Kit::new();
        let zip = zip_of(&[("lib.py", b"x = 1\n")]);
        let mut arns = Vec::new();
        for name in ["a", "b", "c", "d", "e", "f"] {
            arns.push(kit.layer(name, 1, &zip).await);
        }
        let second = kit.layer("a", 2, &zip).await;
        let layer = "arn:aws:lambda:us-east-1:000000000000:layer";
        let twice = "Two different versions of the same layer are not allowed to be referenced in the same function.";
        for (layers, text) in [
            (json!(arns), "Cannot reference more than 5 layers.".to_owned()),
            (
                json!([arns[0], second]),
                format!("{twice} {layer}:a:1 and {layer}:a:2 are versions of the same layer."),
            ),
            (
                json!([arns[0], arns[0]]),
                format!("{twice} {layer}:a:1 and {layer}:a:1 are versions of the same layer."),
            ),
            (
                json!([format!("{layer}:doesnotexist:1")]),
                format!("Layer version {layer}:doesnotexist:1 does not exist."),
            ),
            (
                json!(["arn:aws:lambda:eu-west-1:000000000000:layer:a:1"]),
                "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.".into(),
            ),
        ] {
            assert_eq!(kit.create_with("f", json!({"Layers": layers})).await.unwrap_err().message, text);
        }
        let shown = kit.create_with("f", json!({"Layers": arns[1..].to_vec()})).await.unwrap();
        assert_eq!(shown["Layers"][4], json!({"Arn": arns[5], "CodeSize": zip.len()}));
        let none = json!({"FunctionName": "f", "Layers": []});
        let shown = kit.call("UpdateFunctionConfiguration", none).await.unwrap();
        assert!(!shown.contains_key("Layers"));
    }

    #[test]
    fn code_and_layers_are_measured_together() {
        let mut version = begun("f");
        let code = |bytes| CodeRef { sha256: String::new(), zip_bytes: 0, unzipped_bytes: bytes };
        version.code = code(200_000_000);
        version.layers = vec![LayerRef { arn: String::new(), code: code(62_144_000) }];
        check_unzipped(&version).unwrap();
        version.layers.push(LayerRef { arn: String::new(), code: code(1) });
        assert_eq!(
            check_unzipped(&version).unwrap_err().message,
            "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is 262144001 bytes."
        );
    }
}
