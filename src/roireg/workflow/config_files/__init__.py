"""Files written from the models of the configuration: config.yaml, its JSON schema, and its documentation."""
