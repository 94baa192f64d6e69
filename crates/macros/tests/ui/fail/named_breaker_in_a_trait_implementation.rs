use service_mesh::{CircuitOpenError, with_circuit_breaker};

trait Fetch {
    fn fetch(&self) -> Result<(), CircuitOpenError>;
}

struct Client;

impl Fetch for Client {
    #[with_circuit_breaker("api")]
    fn fetch(&self) -> Result<(), CircuitOpenError> {
        Ok(())
    }
}

fn main() {
    let _ = Client.fetch();
}
