namespace MLNetLora.Bench;

/// <summary>Knows what each request is answered alone, and compares.</summary>
internal sealed class SoakJudge(SoakTally tally)
{
    private readonly Dictionary<(string Weights, int Request), SoakAnswer> _alone = [];

    /// <summary>The requests.</summary>
    public IReadOnlyList<SoakRequest> Requests { get; private set; } = SoakRequests.Make();

    /// <summary>How many answers are known.</summary>
    public int Known => _alone.Count;

    /// <summary>Asks every request alone, one after another, none of them streamed.</summary>
    /// <param name="client">Asks.</param>
    /// <param name="name">The name that has these weights now.</param>
    /// <param name="weights">What the weights are called.</param>
    public async Task LearnAsync(SoakClient client, string name, string weights)
    {
        foreach (SoakRequest request in Requests)
        {
            string body = request.Body(name, isStream: false);
            SoakReply? reply = await client.AskAsync(request.Path, body);
            if (reply is not { Status: 200 })
            {
                throw new InvalidOperationException($"Alone, {name} answers {reply?.Status}: {reply?.Body}\n{body}");
            }

            _alone[(weights, request.Id)] = SoakAnswer.Parse(reply.Body, name, isStream: false);
        }
    }

    /// <summary>Leaves out what a service refuses alone, such as tools that its chat template does not write.</summary>
    public async Task LeaveOutRefusedAsync(SoakClient client, string name)
    {
        List<SoakRequest> answered = [];
        foreach (SoakRequest request in Requests)
        {
            SoakReply? reply = await client.AskAsync(request.Path, request.Body(name, isStream: false));
            if (reply is { Status: 200 })
            {
                answered.Add(request);
            }
            else
            {
                Console.WriteLine($"left out, {request.Kind}: {reply?.Status} {reply?.Body}");
            }
        }

        Requests = answered;
    }

    /// <summary>How many requests two weights answer otherwise: who answers in the place of the other is seen by these.</summary>
    public int Differ(string weights, string others) =>
        Requests.Count(request => !_alone[(weights, request.Id)].IsSame(_alone[(others, request.Id)]));

    /// <summary>Compares an answer with those that are right.</summary>
    public void Check(SoakRequest request, SoakTarget target, bool isStream, SoakReply reply)
    {
        string Told(string what) => $"{what}\nrequest {request.Body(target.Name, isStream)}\n"
            + string.Join('\n', target.Weights.Select(weights => $"{weights} {_alone[(weights, request.Id)].Text}")) + $"\ngot {reply.Status} {reply.Body}";

        if (reply.Status == 404 && reply.Body.Contains("model_not_found", StringComparison.Ordinal))
        {
            tally.Count($"answers: 404 for {target.Name}");
            if (!target.MayBeMissing)
            {
                tally.Fault("missing", Told("the model must be there"));
            }

            return;
        }

        if (reply.Status != 200)
        {
            tally.Fault($"status {reply.Status}", Told("an error in the place of an answer"));
            return;
        }

        try
        {
            SoakAnswer answer = SoakAnswer.Parse(reply.Body, target.Name, isStream);
            string? right = target.Weights.FirstOrDefault(weights => _alone[(weights, request.Id)].IsSame(answer));
            if (right is null)
            {
                string? other = _alone.FirstOrDefault(known => known.Key.Request == request.Id && known.Value.IsSame(answer)).Key.Weights;
                tally.Fault($"wrong answer, {request.Kind}", Told(other is not null ? $"it is the answer of {other}" : "it is nobody's answer; "
                    + string.Join("; ", target.Weights.Select(weights => $"{weights} differs {_alone[(weights, request.Id)].Difference(answer)}"))));
                return;
            }

            tally.Count($"answers: right, {target.Name} as {right}");
        }
        catch (FormatException error)
        {
            tally.Fault("broken answer", Told(error.Message));
            return;
        }

        tally.Took($"{request.Kind}{(isStream ? ", streamed" : "")}", reply.Seconds);
        tally.Took(isStream ? "all, streamed" : "all, not streamed", reply.Seconds);
        if (isStream)
        {
            tally.Took("all, first bytes of a stream", reply.First);
        }
    }
}
