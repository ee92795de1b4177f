# Calls the model from R itself, without Python and without Luthier.
#
#     Rscript direct.R MODEL_RDS DATA_CSV OUTPUT_JSON
#
# Predicts every row in one call. The numbers are written in hexadecimal, so that a comparison is bit
# for bit.

files <- commandArgs(trailingOnly = TRUE)

model <- readRDS(files[1])
predictions <- predict(model, newdata = read.csv(files[2]), type = "response")
writeLines(
  sprintf(
    '{"R": "%s", "predictions": {"probability_case": [%s]}}',
    getRversion(), paste0('"', sprintf("%a", predictions), '"', collapse = ", ")
  ),
  files[3]
)
