# Fits the model inside the environment it will be served from.
#
#     Rscript train.R OUT
#
# writes OUT/model.rds (a logistic regression by glm) and OUT/data.csv: every row of R's data set
# `infert`, a matched case-control study of infertility, with the target and the model's output.

out <- commandArgs(trailingOnly = TRUE)[1]

inputs <- c("age", "parity", "education", "induced", "spontaneous")
data <- infert[c(inputs, "case")]

# Without copies of the data, which prediction does not need.
model <- glm(
  case ~ age + parity + education + induced + spontaneous,
  family = binomial(), data = data, model = FALSE, y = FALSE
)

saveRDS(model, file.path(out, "model.rds"))
data$probability_case <- sprintf("%.17g", predict(model, newdata = data, type = "response"))
write.csv(data, file.path(out, "data.csv"), row.names = FALSE, quote = FALSE)
