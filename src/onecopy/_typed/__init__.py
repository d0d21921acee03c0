"""Types of messages: annotations, the schema in the pool, and the plan that the core follows."""
