//! Starts from images: whose runtime is written down, and how a sandbox goes on from that.

use std::sync::Arc;
use std::time::Instant;

use super::{Invoker, Version, lock, who};
use crate::invoke::starts::Why;
use crate::invoke::{Function, LogNames, Started, wanted_held, wanted_image};
use crate::launcher::LauncherError;
use crate::logs::Sink;
use crate::pool::ahead::lull;
use crate::pool::images::Advice;
use crate::pool::{INIT_TIMEOUT, Instance, Key, PoolError};
use crate::runtimes::Resolved;
use crate::sandbox::MemoryMib;

impl<S: Sink + Send + 'static> Invoker<S> {
    /// The image that a new sandbox of this version can go on from; has one made where that is worth it.
    pub(super) fn image(self: &Arc<Self>, version: &Arc<Version>) -> Option<u32> {
        let function = &version.function;
        if !function.runtime.image || self.ahead.off().is_some() {
            return None;
        }
        version.kinds.image()?;
        let advice = lock(&self.images).start(&version.key, function.runtime_index, Instant::now());
        match advice {
            Advice::Use(image) => Some(image),
            Advice::Make => {
                let (this, version) = (self.clone(), version.clone());
                tokio::spawn(async move { this.make_image(&version).await });
                None
            }
            Advice::Nothing => None,
        }
    }

    async fn make_image(&self, version: &Version) {
        lull(|| self.running() > 0).await;
        let function = &version.function;
        let (name, runtime) = (&function.name, function.runtime_index);
        let mut image = self.launcher.new_id();
        let mut taken = self.take_image(image, runtime, &function.runtime).await;
        if taken.is_err() {
            // By chance a program is laid out where it cannot come back; the next one is elsewhere.
            self.forget_images(vec![image]).await;
            image = self.launcher.new_id();
            taken = self.take_image(image, runtime, &function.runtime).await;
        }
        let gone = match taken {
            Ok(bytes) => {
                tracing::info!(function = name, bytes, "an image of its runtime was made");
                lock(&self.images).made(&version.key, image, bytes, Instant::now())
            }
            Err(error) => {
                let why = reason(&error);
                tracing::warn!(function = name, why, "no image of its runtime could be made");
                let mut gone =
                    lock(&self.images).failed(&version.key, runtime, None, Instant::now());
                gone.push(image);
                gone
            }
        };
        self.forget_images(gone).await;
    }

    /// Boots the runtime in a sandbox of its own until it stops, and has that written down.
    async fn take_image(
        &self,
        image: u32,
        index: u32,
        runtime: &Resolved,
    ) -> Result<u64, PoolError> {
        let wanted = wanted_image(&self.launcher, index, runtime);
        // Whatever becomes of this future, the sandbox ends with the instance.
        let mut instance: Instance<S> =
            Instance::start_unheard(self.launcher.clone(), wanted).await?;
        let imaged = match instance.exec_failed() {
            Some((_, errno)) => {
                let said = std::io::Error::from_raw_os_error(*errno).to_string();
                Err(PoolError::NotReady { said })
            }
            None => instance.image(image).await,
        };
        instance.release().await?;
        imaged
    }

    /// A sandbox that goes on from `image`, in one that is held, or made for it.
    ///
    /// # Errors
    /// Why not, for the log. The image is gone then, and another start will do.
    pub(super) async fn restored(
        &self,
        image: u32,
        version: &Version,
        names: &LogNames,
        kind: &'static str,
        request_id: Option<&str>,
    ) -> Result<Started<S>, Why> {
        let function = &version.function;
        let result = match self.held_for_image(version).await {
            Ok(held) => {
                let sink = self.logbook.open(function, names);
                Started::claim(held, function, names, sink, kind, Some(image)).await
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(started) => Ok(started),
            Err(error) => {
                let why = reason(&error);
                tracing::warn!(request_id, function = function.name, why, "an image did not start");
                let runtime = function.runtime_index;
                let gone =
                    lock(&self.images).failed(&version.key, runtime, Some(image), Instant::now());
                self.forget_images(gone).await;
                Err(Why::Image { why })
            }
        }
    }

    async fn held_for_image(&self, version: &Version) -> Result<Instance<S>, PoolError> {
        let Function { runtime_index, runtime, .. } = &*version.function;
        let kind = version.kinds.image();
        let waiting = kind.and_then(|kind| self.ahead.take(kind, who(&version.key)));
        match waiting {
            Some(waiting) => Ok(waiting),
            None => {
                let least = MemoryMib::LEAST;
                let wanted = wanted_held(&self.launcher, *runtime_index, runtime, least);
                Instance::start_ahead(self.launcher.clone(), wanted, INIT_TIMEOUT).await
            }
        }
    }

    /// Drops the images of versions that are gone.
    pub(super) async fn retain_images(&self, keep: impl Fn(&Key) -> bool) {
        let gone = lock(&self.images).retain(keep);
        self.forget_images(gone).await;
    }

    /// Drops images that nobody has used for long.
    pub async fn end_idle_images(&self) {
        let gone = lock(&self.images).expire(Instant::now());
        self.forget_images(gone).await;
    }

    async fn forget_images(&self, gone: Vec<u32>) {
        for image in gone {
            // Where the launcher is gone, so are its images.
            let _ = self.launcher.forget(image).await;
        }
    }
}

fn reason(error: &PoolError) -> String {
    match error {
        PoolError::Launcher(LauncherError::Refused { chain, .. }) => chain.join(": "),
        other => other.to_string(),
    }
}
