BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'small/1');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MAXIMIZE',1,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,1,'sweep','"small"');
INSERT INTO "study_user_attributes" VALUES(2,1,'digest','"65f21b3f6f2899015819f21203b63443734a43423701ac2333af246bd0c15ab4"');
INSERT INTO "study_user_attributes" VALUES(3,1,'registered','"2026-11-24T11:37:15+00:00"');
INSERT INTO "study_user_attributes" VALUES(4,1,'content','{"sweep": {"name": "small", "question": "Does tanh hurt?", "source": "", "design": "factorial", "baseline": {}, "scientific": {"activation": ["relu", "tanh"]}, "configurations": {}, "nuisance": {}, "tuning_trials": 0, "fixed": {"epochs": 2}, "seeds": 3, "claims": [{"name": "tanh-hurts", "statement": "Tanh hurts.", "treatment": {"activation": "tanh"}, "control": {"activation": "relu"}, "reference": null, "where": {}, "versus": null, "metric": "test_accuracy", "direction": "lower", "margin": 0.002}]}, "data_digest": "df842df1dd1955122dfd3a76b3c48a68910f090d73762119553869b82bdeaa0c"}');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_intermediate_values" VALUES(1,1,1,9.46793370008468526677e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,1,2,9.56793370008468535559e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(3,2,1,9.23130592465400634516e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(4,2,2,9.33130592465400643398e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(5,3,1,9.48138286232948268583e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(6,3,2,9.58138286232948277465e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(7,4,1,9.27957508921623208664e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(8,4,2,9.37957508921623217545e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(9,5,1,0.941109104514122,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(10,5,2,0.951109104514122,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(11,6,1,9.22587222814559848593e-01,'FINITE');
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'activation',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["relu", "tanh"]}}');
INSERT INTO "trial_params" VALUES(2,1,'seed',0.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 0, "high": 2147483648}}');
INSERT INTO "trial_params" VALUES(3,2,'activation',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["relu", "tanh"]}}');
INSERT INTO "trial_params" VALUES(4,2,'seed',0.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 0, "high": 2147483648}}');
INSERT INTO "trial_params" VALUES(5,3,'activation',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["relu", "tanh"]}}');
INSERT INTO "trial_params" VALUES(6,3,'seed',1.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 0, "high": 2147483648}}');
INSERT INTO "trial_params" VALUES(7,4,'activation',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["relu", "tanh"]}}');
INSERT INTO "trial_params" VALUES(8,4,'seed',1.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 0, "high": 2147483648}}');
INSERT INTO "trial_params" VALUES(9,5,'activation',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["relu", "tanh"]}}');
INSERT INTO "trial_params" VALUES(10,5,'seed',2.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 0, "high": 2147483648}}');
INSERT INTO "trial_params" VALUES(11,6,'activation',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["relu", "tanh"]}}');
INSERT INTO "trial_params" VALUES(12,6,'seed',2.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 0, "high": 2147483648}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'trial_id','"effe9480169d5472"');
INSERT INTO "trial_user_attributes" VALUES(2,1,'trial','{"recipe": {"model": "mlp", "activation": "relu", "normalizer": "unit", "optimizer": "adam", "learning_rate": 0.001, "dropout": 0.5, "norm_layer": "none", "initializer": "glorot_uniform", "width": 500, "batch_size": 128, "epochs": 2}, "seed": 0, "data_digest": "df842df1dd1955122dfd3a76b3c48a68910f090d73762119553869b82bdeaa0c"}');
INSERT INTO "trial_user_attributes" VALUES(3,1,'stage','"verdict"');
INSERT INTO "trial_user_attributes" VALUES(4,1,'outcome','{"trial_id": "effe9480169d5472", "status": "complete", "metrics": {"test_accuracy": 0.9657933700084685, "test_loss": 0.034206629991531456, "val_accuracy": 0.9567933700084685, "val_loss": 0.1}, "diagnostics": {}, "epochs": [{"number": 1, "train_loss": 1.0, "train_accuracy": 0.9, "val_loss": 0.2, "val_accuracy": 0.9467933700084685, "ended_ms": 1795520238542}, {"number": 2, "train_loss": 0.5, "train_accuracy": 0.9, "val_loss": 0.1, "val_accuracy": 0.9567933700084685, "ended_ms": 1795520238565}], "reason": "", "traceback": "", "started_ms": 1795520238519, "seconds": 0.1, "worker": "18116"}');
INSERT INTO "trial_user_attributes" VALUES(5,1,'sha256','"2d272dd5973f3ddcbae3fb9b20eb8876f1aae63ff4d36b4e5d5b3b80900cca63"');
INSERT INTO "trial_user_attributes" VALUES(6,2,'trial_id','"8436204b703a0d75"');
INSERT INTO "trial_user_attributes" VALUES(7,2,'trial','{"recipe": {"model": "mlp", "activation": "tanh", "normalizer": "unit", "optimizer": "adam", "learning_rate": 0.001, "dropout": 0.5, "norm_layer": "none", "initializer": "glorot_uniform", "width": 500, "batch_size": 128, "epochs": 2}, "seed": 0, "data_digest": "df842df1dd1955122dfd3a76b3c48a68910f090d73762119553869b82bdeaa0c"}');
INSERT INTO "trial_user_attributes" VALUES(8,2,'stage','"verdict"');
INSERT INTO "trial_user_attributes" VALUES(9,2,'outcome','{"trial_id": "8436204b703a0d75", "status": "complete", "metrics": {"test_accuracy": 0.9421305924654007, "test_loss": 0.05786940753459935, "val_accuracy": 0.9331305924654006, "val_loss": 0.1}, "diagnostics": {}, "epochs": [{"number": 1, "train_loss": 1.0, "train_accuracy": 0.9, "val_loss": 0.2, "val_accuracy": 0.9231305924654006, "ended_ms": 1795520238542}, {"number": 2, "train_loss": 0.5, "train_accuracy": 0.9, "val_loss": 0.1, "val_accuracy": 0.9331305924654006, "ended_ms": 1795520238570}], "reason": "", "traceback": "", "started_ms": 1795520238521, "seconds": 0.1, "worker": "18119"}');
INSERT INTO "trial_user_attributes" VALUES(10,2,'sha256','"6b98edf19ef2c11438354e2e457edd4ce170e0ef54955661f2dcb675a9f09fa0"');
INSERT INTO "trial_user_attributes" VALUES(11,3,'trial_id','"66ec40cde6d26edb"');
INSERT INTO "trial_user_attributes" VALUES(12,3,'trial','{"recipe": {"model": "mlp", "activation": "relu", "normalizer": "unit", "optimizer": "adam", "learning_rate": 0.001, "dropout": 0.5, "norm_layer": "none", "initializer": "glorot_uniform", "width": 500, "batch_size": 128, "epochs": 2}, "seed": 1, "data_digest": "df842df1dd1955122dfd3a76b3c48a68910f090d73762119553869b82bdeaa0c"}');
INSERT INTO "trial_user_attributes" VALUES(13,3,'stage','"verdict"');
INSERT INTO "trial_user_attributes" VALUES(14,3,'outcome','{"trial_id": "66ec40cde6d26edb", "status": "complete", "metrics": {"test_accuracy": 0.9671382862329483, "test_loss": 0.032861713767051715, "val_accuracy": 0.9581382862329483, "val_loss": 0.1}, "diagnostics": {}, "epochs": [{"number": 1, "train_loss": 1.0, "train_accuracy": 0.9, "val_loss": 0.2, "val_accuracy": 0.9481382862329483, "ended_ms": 1795520238792}, {"number": 2, "train_loss": 0.5, "train_accuracy": 0.9, "val_loss": 0.1, "val_accuracy": 0.9581382862329483, "ended_ms": 1795520238820}], "reason": "", "traceback": "", "started_ms": 1795520238772, "seconds": 0.1, "worker": "18116"}');
INSERT INTO "trial_user_attributes" VALUES(15,3,'sha256','"33f971002d8a1c9671bd074741558e4d55c4dc2f9f3b1b0a2ccc9e58468747e4"');
INSERT INTO "trial_user_attributes" VALUES(16,4,'trial_id','"65845ae15de35d18"');
INSERT INTO "trial_user_attributes" VALUES(17,4,'trial','{"recipe": {"model": "mlp", "activation": "tanh", "normalizer": "unit", "optimizer": "adam", "learning_rate": 0.001, "dropout": 0.5, "norm_layer": "none", "initializer": "glorot_uniform", "width": 500, "batch_size": 128, "epochs": 2}, "seed": 1, "data_digest": "df842df1dd1955122dfd3a76b3c48a68910f090d73762119553869b82bdeaa0c"}');
INSERT INTO "trial_user_attributes" VALUES(18,4,'stage','"verdict"');
INSERT INTO "trial_user_attributes" VALUES(19,4,'outcome','{"trial_id": "65845ae15de35d18", "status": "complete", "metrics": {"test_accuracy": 0.9469575089216232, "test_loss": 0.053042491078376774, "val_accuracy": 0.9379575089216232, "val_loss": 0.1}, "diagnostics": {}, "epochs": [{"number": 1, "train_loss": 1.0, "train_accuracy": 0.9, "val_loss": 0.2, "val_accuracy": 0.9279575089216232, "ended_ms": 1795520238853}, {"number": 2, "train_loss": 0.5, "train_accuracy": 0.9, "val_loss": 0.1, "val_accuracy": 0.9379575089216232, "ended_ms": 1795520238874}], "reason": "", "traceback": "", "started_ms": 1795520238828, "seconds": 0.1, "worker": "18119"}');
INSERT INTO "trial_user_attributes" VALUES(20,4,'sha256','"091dc6d21a60e7c012a99e022101e3e89ea51d3fc00aa82e0e50538fc457d11f"');
INSERT INTO "trial_user_attributes" VALUES(21,5,'trial_id','"d2923fadd97287c5"');
INSERT INTO "trial_user_attributes" VALUES(22,5,'trial','{"recipe": {"model": "mlp", "activation": "relu", "normalizer": "unit", "optimizer": "adam", "learning_rate": 0.001, "dropout": 0.5, "norm_layer": "none", "initializer": "glorot_uniform", "width": 500, "batch_size": 128, "epochs": 2}, "seed": 2, "data_digest": "df842df1dd1955122dfd3a76b3c48a68910f090d73762119553869b82bdeaa0c"}');
INSERT INTO "trial_user_attributes" VALUES(23,5,'stage','"verdict"');
INSERT INTO "trial_user_attributes" VALUES(24,5,'outcome','{"trial_id": "d2923fadd97287c5", "status": "complete", "metrics": {"test_accuracy": 0.960109104514122, "test_loss": 0.039890895485877986, "val_accuracy": 0.951109104514122, "val_loss": 0.1}, "diagnostics": {}, "epochs": [{"number": 1, "train_loss": 1.0, "train_accuracy": 0.9, "val_loss": 0.2, "val_accuracy": 0.941109104514122, "ended_ms": 1795520238989}, {"number": 2, "train_loss": 0.5, "train_accuracy": 0.9, "val_loss": 0.1, "val_accuracy": 0.951109104514122, "ended_ms": 1795520239012}], "reason": "", "traceback": "", "started_ms": 1795520238969, "seconds": 0.1, "worker": "18119"}');
INSERT INTO "trial_user_attributes" VALUES(25,5,'sha256','"2271682a0d18e2fd8091ed67cb5ef94b22897f14ae4b4226be4570b262da6a1d"');
INSERT INTO "trial_user_attributes" VALUES(26,6,'trial_id','"608cb6e7501267af"');
INSERT INTO "trial_user_attributes" VALUES(27,6,'trial','{"recipe": {"model": "mlp", "activation": "tanh", "normalizer": "unit", "optimizer": "adam", "learning_rate": 0.001, "dropout": 0.5, "norm_layer": "none", "initializer": "glorot_uniform", "width": 500, "batch_size": 128, "epochs": 2}, "seed": 2, "data_digest": "df842df1dd1955122dfd3a76b3c48a68910f090d73762119553869b82bdeaa0c"}');
INSERT INTO "trial_user_attributes" VALUES(28,6,'stage','"verdict"');
INSERT INTO "trial_user_attributes" VALUES(29,6,'outcome','{"trial_id": "608cb6e7501267af", "status": "diverged", "metrics": {"test_accuracy": 0.1, "test_loss": 2.3}, "diagnostics": {}, "epochs": [{"number": 1, "train_loss": 1.0, "train_accuracy": 0.9, "val_loss": 0.2, "val_accuracy": 0.9225872228145598, "ended_ms": 1795520239143}], "reason": "loss not finite in epoch 2", "traceback": "", "started_ms": 1795520239114, "seconds": 0.1, "worker": "18119"}');
INSERT INTO "trial_user_attributes" VALUES(30,6,'sha256','"13bbbc93594f0b4489aab3ea93f0fcf269ff31bd8f9fc92d6d5fb675648b5c0b"');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,9.65793370008468543552e-01,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,9.42130592465400651391e-01,'FINITE');
INSERT INTO "trial_values" VALUES(3,3,0,9.67138286232948285459e-01,'FINITE');
INSERT INTO "trial_values" VALUES(4,4,0,9.46957508921623225539e-01,'FINITE');
INSERT INTO "trial_values" VALUES(5,5,0,0.960109104514122,'FINITE');
INSERT INTO "trial_values" VALUES(6,6,0,0.1,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-24 11:37:18.589724','2026-11-24 11:37:18.589724');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-24 11:37:18.770135','2026-11-24 11:37:18.770135');
INSERT INTO "trials" VALUES(3,2,1,'COMPLETE','2026-11-24 11:37:18.848733','2026-11-24 11:37:18.848733');
INSERT INTO "trials" VALUES(4,3,1,'COMPLETE','2026-11-24 11:37:18.977693','2026-11-24 11:37:18.977693');
INSERT INTO "trials" VALUES(5,4,1,'COMPLETE','2026-11-24 11:37:19.135678','2026-11-24 11:37:19.135678');
INSERT INTO "trials" VALUES(6,5,1,'COMPLETE','2026-11-24 11:37:19.257958','2026-11-24 11:37:19.257958');
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
