//! Ways to wait: a thread's, and any runtime's.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

/// Waits by blocking the calling thread.
pub trait Sleep: fmt::Debug + Send + Sync {
    /// Returns after `duration`, not before.
    fn sleep(&self, duration: Duration);
}

/// `thread::sleep`, the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadSleep;

impl Sleep for ThreadSleep {
    #[expect(clippy::disallowed_methods, reason = "the one place that waits on the system's clock")]
    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A wait under way. Dropping it cancels the wait.
pub type Sleeping = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Waits without blocking: implement it over the timer of your runtime.
///
/// ```
/// use std::time::Duration;
/// use service_mesh::{AsyncSleep, Environment, NoTimer, Sleeping};
///
/// #[derive(Debug)]
/// struct MyRuntime;
///
/// impl AsyncSleep for MyRuntime {
///     fn sleep(&self, duration: Duration) -> Result<Sleeping, NoTimer> {
///         Ok(Box::pin(async move { my_runtime::sleep(duration).await }))
///     }
/// }
/// let environment = Environment::system().with_async_sleep(MyRuntime);
/// # mod my_runtime { pub async fn sleep(_: std::time::Duration) {} }
/// ```
pub trait AsyncSleep: fmt::Debug + Send + Sync {
    /// A future that is ready after `duration`, not before. It is called from within the task that will wait.
    ///
    /// # Errors
    /// There is no timer here, for example because the caller is outside the runtime.
    fn sleep(&self, duration: Duration) -> Result<Sleeping, NoTimer>;
}

/// tokio's timer; the default where the feature `tokio` is on.
///
/// Outside a tokio runtime there is no timer, which is a [`NoTimer`]. Inside one that was built without `enable_time`,
/// tokio itself panics.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioSleep;

#[cfg(feature = "tokio")]
impl AsyncSleep for TokioSleep {
    fn sleep(&self, duration: Duration) -> Result<Sleeping, NoTimer> {
        match tokio::runtime::Handle::try_current() {
            Ok(_inside) => Ok(Box::pin(tokio::time::sleep(duration))),
            Err(_) => Err(NoTimer::new("not called from within a tokio runtime")),
        }
    }
}

/// An async call had to wait and could not: there is no timer where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoTimer {
    why: &'static str,
}

impl NoTimer {
    /// There is no timer, and why.
    pub const fn new(why: &'static str) -> Self {
        Self { why }
    }
}

impl fmt::Display for NoTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no async timer: {}; run inside a tokio runtime with the feature `tokio`, or give another timer with \
             `Environment::with_async_sleep`",
            self.why
        )
    }
}

impl Error for NoTimer {}
