//! `service-mesh demo`: the sidecar of `service-mesh run`, before three servers in trouble.
//!
//! What happens to the servers, who calls, and the sums are those of `service-mesh-story`. Here are the policy, and
//! callers who send HTTP.

mod caller;

use std::error::Error;
use std::fmt::Write as _;

use service_mesh::ServiceInstance;
use service_mesh_story::{CALLERS, Ending, PATH, Speed, Stage};

use self::caller::Caller;
use crate::launch::Launched;
use crate::sidecar::Sidecar;
use crate::signals::{Signal, Signals};

/// The service.
const SHOP: &str = "shop";

/// As many as there are cores, as a rule; more would only be told less about.
const THREADS: usize = 2;

type Failure = Box<dyn Error + Send + Sync>;

/// Tells the story. Must run in a tokio runtime.
pub(crate) async fn tell(speed: Speed) -> Result<Ending, Failure> {
    let mut stage = Stage::build(speed)?;
    let mesh = Sidecar::builder().listener(stage.listener()).read_text(&policy(&stage.instances(), speed))?;
    let shop = mesh.service(SHOP).ok_or("the policy has no shop")?;
    let launched = Launched::launch(&Sidecar::new(mesh), THREADS)?;
    let address = launched.listening()[0].1.to_string();
    let admin = launched.admin().ok_or("the policy has no admin")?.to_string();
    stage.say(greeting(&address, &admin));

    let mut system = Signals::system()?;
    let (sidecar, given) = Signals::given();
    let serving = tokio::spawn(launched.run(given));
    let interrupt = async {
        system.end().await;
    };
    let played = stage.play(&shop, || Caller::new(address.clone()), interrupt).await;

    // Its end is that of every sidecar. What it has counted is complete then.
    sidecar.send(Signal::Interrupt)?;
    serving.await?;
    Ok(stage.end(&played))
}

/// What the sidecar does. What is not said here has its default: round robin, at most three retries, the budget.
fn policy(servers: &[ServiceInstance], speed: Speed) -> String {
    let timeout = speed.of(1.0).as_secs_f64();
    let mut text = format!(
        "[listeners.web]
         address = '127.0.0.1:0'

         [admin]
         address = '127.0.0.1:0'

         [drain]
         deadline_seconds = 1

         [services.{SHOP}]
         # Two of three are in trouble at once.
         max_ejected_ratio = 1
         # Every call tells its story, for the sums at the end. In production a hundredth would do, or none.
         explain_ratio = 1
         # For the service, and for each of its instances.
         circuit_breaker = {{ failure_threshold = 3, timeout_seconds = {timeout} }}
         retry = {{ initial_delay_seconds = 0.02 }}
         timeouts = {{ call_seconds = 2, attempt_seconds = 0.15 }}
         "
    );
    for ServiceInstance { id, host, port, .. } in servers {
        let _ = writeln!(text, "[[services.{SHOP}.instances]]\nid = '{id}'\nhost = '{host}'\nport = {port}");
    }
    text
}

fn greeting(address: &str, admin: &str) -> String {
    format!(
        "{CALLERS} callers send requests to a sidecar, which passes them on to three servers, while a\n\
         script breaks the servers. One whose circuit trips gets no more requests until a\n\
         probe finds it well again.\n\
         \n\
         callers ask http://{address}{PATH}. Meanwhile look for yourself, in another terminal:\n  \
           curl -i http://{address}/                   ask as they do\n  \
           curl -s http://{admin}/snapshot           circuits, budget, instances\n  \
           curl -s http://{admin}/explain            what recent calls went through\n  \
           curl -s http://{admin}/metrics            for Prometheus\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_one_that_run_would_take() {
        let servers = ["alpha", "beta"].map(|name| ServiceInstance::new(name, "127.0.0.1", 9001));
        let policy = service_mesh::read_policy_file(&policy(&servers, "4".parse().unwrap())).unwrap();
        let shop = &policy.services[SHOP];
        assert_eq!(shop.instances.len(), 2);
        assert_eq!(shop.circuit_breaker.timeout(), std::time::Duration::from_millis(250));
    }
}
