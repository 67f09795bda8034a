-- Run once by the postgres image, on an empty volume.
CREATE DATABASE mlflow;
CREATE DATABASE prefect;
