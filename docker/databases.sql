-- Two databases, each its own role's alone: the service's runs (mlflow), the sweeps' ledger (optuna).
-- The passwords are the fifth field of libpq's password files, read here so that no command line shows them.
\set mlflow `cut -d : -f 5 "${STACK_SECRETS:-/run/secrets}/mlflow_pgpass"`
\set optuna `cut -d : -f 5 "${STACK_SECRETS:-/run/secrets}/optuna_pgpass"`
SET password_encryption = 'scram-sha-256';
CREATE ROLE mlflow LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT 60 PASSWORD :'mlflow';
CREATE ROLE optuna LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT 60 PASSWORD :'optuna';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE optuna OWNER optuna;
REVOKE ALL ON DATABASE mlflow, optuna, postgres, template1 FROM PUBLIC;
