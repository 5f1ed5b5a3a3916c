namespace CompanyQa;

/// <summary>What a prediction engine is asked: the columns that the model reads.</summary>
internal sealed class Question
{
    public string Instruction { get; set; } = "";

    public string Input { get; set; } = "";
}

/// <summary>What a prediction engine gives back: the column that the model adds.</summary>
internal sealed class Reply
{
    public string Answer { get; set; } = "";
}
