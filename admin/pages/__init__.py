"""The pages: what people see and send, one module to a subject; `entry` shows errors, `form` reads fields."""
