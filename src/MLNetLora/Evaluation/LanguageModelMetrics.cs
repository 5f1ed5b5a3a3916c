namespace MLNetLora.Evaluation;

/// <summary>How likely a model finds the answers of a data set; made by <c>QwenLoraTransformer.EvaluateLoss</c>. Nothing is generated for it.</summary>
/// <param name="Rows">Rows that have label tokens. A conversation that is learned answer by answer is a row for each.</param>
/// <param name="LabelTokens">Tokens of the answers, those that end them included.</param>
/// <param name="Loss">Mean loss of a label token: −log of the probability that the model gives it after the true tokens before it, in nats.</param>
/// <param name="TokenAccuracy">Share of the label tokens that have the largest logit after the true tokens before them, of equal ones the first; from 0 to 1.
/// TRL's name: mean_token_accuracy.</param>
public sealed record LanguageModelMetrics(long Rows, long LabelTokens, double Loss, double TokenAccuracy)
{
    /// <summary>e to the <see cref="Loss"/>: among how many equally likely tokens the model would choose, in the mean.</summary>
    public double Perplexity => Math.Exp(Loss);
}
