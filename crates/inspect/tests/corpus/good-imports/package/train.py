import mlflow
import seaborn

mlflow.start_run()
